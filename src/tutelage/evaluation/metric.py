"""How an answer becomes a number."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tutelage.components import bind
from tutelage.errors import DataError
from tutelage.evaluation.question import Question
from tutelage.verifiers import VERIFIERS, Verifier


class Metric(Protocol):
    """Scores answers, many at once: it may run programs side by side, or ask a judge."""

    def check(self, questions: Sequence[Question]) -> None:
        """Refuse questions whose answers cannot be scored, before anything is generated.

        Raises:
            DataError: there is one; the message names it.
        """
        ...

    def score(
        self,
        questions: Sequence[Question],
        answers: Sequence[str],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[float]:
        """A number in [0, 1] for each answer.

        Args:
            questions: of each answer; one question may be there several times.
            answers: what a model wrote.
            progress: called with (answers scored, answers in all), where that takes its time.
        """
        ...


@dataclass(frozen=True)
class ByVerifier:
    """A metric that holds each answer against the references of its question.

    Attributes:
        verify: from an answer and its references to a number in [0, 1].
        name: what it is called in messages.
    """

    verify: Verifier
    name: str = ""

    def check(self, questions: Sequence[Question]) -> None:
        """Let the verifier see every reference."""
        for question in questions:
            try:
                self.verify("", question.references)
            except DataError as error:
                raise DataError(
                    f"Metric '{self.name}', example '{question.id}': {error}"
                ) from error

    def score(
        self,
        questions: Sequence[Question],
        answers: Sequence[str],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[float]:
        """The verifier's number for each answer."""
        return [
            self.verify(answer, question.references)
            for question, answer in zip(questions, answers, strict=True)
        ]


def bound_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Metric]:
    """The metrics that a recipe names.

    Args:
        metrics: names of verifiers with their options.

    Raises:
        ConfigError: an unknown metric or option.
    """
    return {
        name: ByVerifier(bind(VERIFIERS, "metric", name, options), name)
        for name, options in metrics.items()
    }
