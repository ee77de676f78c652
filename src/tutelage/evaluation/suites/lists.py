"""Lists of the second embedded task: made, not read, in any number of steps and of any length."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated

from tutelage.components import Limits
from tutelage.evaluation.question import Question
from tutelage.evaluation.suite import Suite


def lists(
    asked: Suite,
    *,
    levels: list[int] = [1, 2, 3, 4],  # noqa: B006
    lengths: list[int] = [3, 4, 5, 6],  # noqa: B006
    count: Annotated[int, Limits(1, 100_000)] = 100,
    seed: int = 0,
    max_new_tokens: Annotated[int, Limits(1, 1_000_000)] = 128,
) -> Suite:
    """Lists of the embedded task, as its data have them or with more steps and other lengths.

    Args:
        asked: metrics, precision, batches, seeds and limit.
        levels: numbers of steps; questions are spread evenly over them.
        lengths: of the lists.
        count: how many questions.
        seed: chooses them.
        max_new_tokens: longest answer; a step takes about twelve at most.
    """
    return dataclasses.replace(
        asked,
        generation=dataclasses.replace(
            asked.generation, max_new_tokens=max_new_tokens, max_total_tokens=None
        ),
        prompt="text",
        read=functools.partial(_made, tuple(levels), tuple(lengths), count, seed),
    )


def _made(levels: Sequence[int], lengths: Sequence[int], count: int, seed: int) -> list[Question]:
    from tutelage.data.lists import list_examples

    made = list_examples("test", count, seed=seed, levels=levels, lengths=lengths)
    return [
        Question(
            example.id,
            example.fields["prompt"],
            references=example.references,
            group=example.group,
        )
        for example in made
    ]
