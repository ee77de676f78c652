"""What a suite finds out of a model otherwise than by letting it answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tutelage.errors import ConfigError
from tutelage.evaluation.question import Question
from tutelage.statistics import Interval

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Measured:
    """What was found.

    Attributes:
        shown: for each question a text that people read in place of an answer.
        scores: by metric a number for each question, shape ``[N]``.
        weights: by metric how much each question counts in the mean, such as its tokens, shape
            ``[N]``; those that are left out count alike.
        overall: what only all questions together have, with its interval.
    """

    shown: Sequence[str]
    scores: Mapping[str, Sequence[float]]
    weights: Mapping[str, Sequence[float]] = field(default_factory=dict)
    overall: Mapping[str, Interval] = field(default_factory=dict)


Read = Callable[[Sequence[Question], Progress], list[Any]]
"""Finds something of each of some questions, as JSON; is told (done, in all) of these."""


class Measure(Protocol):
    """Finds numbers for questions."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What its numbers depend on besides model, questions, batches and precision, as JSON."""
        ...

    @property
    def whole(self) -> bool:
        """Whether all questions must be read at once: what is found of one is not kept then."""
        ...

    def reader(self, engine: Any, suite: Any) -> Read:
        """What reads questions with a model.

        Args:
            engine: with the model.
            suite: with batches and precision in ``generation``, and ``prompt_of``.

        Raises:
            ConfigError: the engine cannot do what is needed.
        """
        ...

    def conclude(self, questions: Sequence[Question], found: Sequence[Any]) -> Measured:
        """The numbers of all questions, from what was found of each."""
        ...


@dataclass(frozen=True)
class Found:
    """Stands among the metrics of a suite for a number that its measure finds."""

    def check(self, questions: Sequence[Question]) -> None:
        """The measure itself says what it cannot use."""

    def score(
        self, questions: Sequence[Question], answers: Sequence[str], progress: Any = None
    ) -> list[float]:
        """There are no answers to score."""
        raise ConfigError(
            "This metric is measured with the model, and not read off its answers."
            " Ask a suite that measures it, such as perplexity or agreement."
        )


def local_model(engine: Any, suite: str) -> tuple[Any, Any]:
    """The model and the tokenizer of an engine that has them here.

    Raises:
        ConfigError: it has not.
    """
    if not hasattr(engine, "model") or not hasattr(engine, "tokenizer"):
        raise ConfigError(
            f"The suite '{suite}' reads probabilities off the model itself, and the engine has it"
            " elsewhere. Ask a model that is on this machine, without --server."
        )
    return engine.model, engine.tokenizer
