"""Chained sums of the embedded task: made, not read, so that a first run has a second suite."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated

from tutelage.components import Limits
from tutelage.evaluation.question import Question
from tutelage.evaluation.suite import Suite


def arithmetic(
    asked: Suite,
    *,
    levels: list[int] = [1, 2, 3, 4, 5],  # noqa: B006
    count: Annotated[int, Limits(1, 100_000)] = 100,
    seed: int = 0,
    largest: Annotated[int, Limits(1, 10**9)] = 99,
    max_new_tokens: Annotated[int, Limits(1, 1_000_000)] = 96,
) -> Suite:
    """Sums of the embedded task, as its data have them or of other lengths and sizes.

    Args:
        asked: metrics, precision, batches, seeds and limit.
        levels: numbers of steps; questions are spread evenly over them.
        count: how many questions.
        seed: chooses them.
        largest: largest number in a question.
        max_new_tokens: longest answer; a step takes about ten.
    """
    return dataclasses.replace(
        asked,
        generation=dataclasses.replace(
            asked.generation, max_new_tokens=max_new_tokens, max_total_tokens=None
        ),
        prompt="text",
        read=functools.partial(_made, tuple(levels), count, seed, largest),
    )


def _made(levels: Sequence[int], count: int, seed: int, largest: int) -> list[Question]:
    from tutelage.data.arithmetic import arithmetic_examples

    made = arithmetic_examples("test", count, seed=seed, levels=levels, largest=largest)
    return [
        Question(
            example.id,
            example.fields["prompt"],
            references=example.references,
            group=example.group,
        )
        for example in made
    ]
