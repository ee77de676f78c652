"""What several suites share of how they ask."""

import dataclasses
from collections.abc import Sequence

from tutelage.errors import ConfigError
from tutelage.evaluation.suite import Suite
from tutelage.generation import Chat
from tutelage.types import Message


def as_chat(text: str) -> Chat:
    """A conversation in which a user asks."""
    return Chat((Message("user", text),))


def generated(
    asked: Suite,
    *,
    max_new_tokens: int,
    text_ends: Sequence[str] = (),
    sampling_temperature: float = 0.0,
    samples: int = 1,
    ks: Sequence[int] = (),
) -> Suite:
    """A suite that is answered once and greedily, or by several samples for pass@k.

    Args:
        asked: precision, batches and limit.
        max_new_tokens: longest answer.
        text_ends: what ends an answer to a text, where a model goes on with a question of its own.
            In a conversation the model's turn ends, and may quote the question before it does.
        sampling_temperature: 0 is greedy.
        samples: answers to each question.
        ks: numbers of answers for pass@k.

    Raises:
        ConfigError: several answers that would all be the same.
    """
    if samples > 1 and not sampling_temperature:
        raise ConfigError(
            f"{samples} answers to each question would all be the same at temperature 0. Set"
            " sampling_temperature above 0, such as 0.8, or ask for one."
        )
    return dataclasses.replace(
        asked,
        generation=dataclasses.replace(
            asked.generation,
            max_new_tokens=max_new_tokens,
            max_total_tokens=None,
            sampling_temperature=sampling_temperature,
            top_p=1.0,
            top_k=0,
            stop_strings=(),
        ),
        text_ends=tuple(text_ends),
        seeds=tuple(10 * (number + 1) for number in range(samples)),
        ks=tuple(ks),
    )
