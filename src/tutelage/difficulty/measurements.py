"""What scores of difficulty are made from: the measurements, however they come about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import DataError, unknown_name

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ExampleLosses:
    """What a model lost on each answer.

    Attributes:
        loss_sums: summed negative log-probability in nats, float64, shape ``[N]``.
        num_tokens: response tokens, int64, shape ``[N]``.
        entropy_sums: summed entropy of the model's next-token distributions at the response tokens
            in nats, float64, shape ``[N]``; None when it was not asked for.
    """

    loss_sums: FloatArray
    num_tokens: IntArray
    entropy_sums: FloatArray | None = None


class Measurements(Protocol):
    """Everything that a score may need, each read only when a score asks for it.

    An implementer measures at the first reading and keeps the result: ``student_losses`` is one
    pass of the student over the data, ``answers`` is generation, ``references`` costs nothing. All
    are in the order of ``ids``, N in number.
    """

    @property
    def ids(self) -> Sequence[str]:
        """Example ids, unique."""
        ...

    @property
    def response_tokens(self) -> IntArray:
        """Tokens of each answer that are learned, shape ``[N]``; no model is needed for them."""
        ...

    @property
    def student_losses(self) -> ExampleLosses:
        """Losses of the student before training.

        With ``entropy_sums`` when :func:`tutelage.difficulty.needs` names ``entropies``.
        """
        ...

    @property
    def teacher_losses(self) -> ExampleLosses:
        """Losses of the teacher on the same response tokens."""
        ...

    @property
    def references(self) -> Sequence[Sequence[str]]:
        """Accepted answers of each example."""
        ...

    @property
    def rationales(self) -> Sequence[str]:
        """One reference rationale of each example: the gold completion, or the best teacher's.

        It must not depend on which teacher supervises the example later, or the order would.
        """
        ...

    @property
    def rationale_tokens(self) -> IntArray:
        """Tokens of each reference rationale, shape ``[N]``."""
        ...

    def answers(
        self, samples: int, sampling_temperature: float, max_new_tokens: int
    ) -> list[tuple[str, ...]]:
        """The student's own answers, ``samples`` of them for each example."""
        ...

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column of the user's file."""
        ...


NOT_GIVEN: Any = None
"""Stands for a measurement that nobody gave; a score that needs it says so."""


@dataclass(frozen=True)
class GivenMeasurements:
    """Measurements from arrays and texts that are there already.

    Attributes:
        ids: as in :class:`Measurements`, and so are all that follow; give those that your scores
            need.
        response_tokens: tokens of each answer.
        student_losses: losses of the student.
        teacher_losses: losses of the teacher.
        references: accepted answers.
        rationales: reference rationales.
        rationale_tokens: tokens of each rationale.
        given_answers: the student's own answers, at least as many as a score asks for. How they
            were sampled is up to the giver.
        columns: values by the name of their column.

    Examples:
        >>> from tutelage.difficulty import score_examples
        >>> given = GivenMeasurements(["a", "b"], columns={"level": [3, 1]})
        >>> score_examples("column", {"name": "level"}, given)
        array([3., 1.])
    """

    ids: Sequence[str]
    response_tokens: IntArray = NOT_GIVEN
    student_losses: ExampleLosses = NOT_GIVEN
    teacher_losses: ExampleLosses = NOT_GIVEN
    references: Sequence[Sequence[str]] = NOT_GIVEN
    rationales: Sequence[str] = NOT_GIVEN
    rationale_tokens: IntArray = NOT_GIVEN
    given_answers: Sequence[Sequence[str]] = NOT_GIVEN
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def answers(
        self, samples: int, sampling_temperature: float, max_new_tokens: int
    ) -> list[tuple[str, ...]]:
        """The first ``samples`` given answers of each example.

        Raises:
            DataError: no answers were given, or too few.
        """
        if self.given_answers is None:
            return NOT_GIVEN
        for name, answers in zip(self.ids, self.given_answers, strict=False):
            if len(answers) < samples:
                raise DataError(
                    f"Example '{name}' has {len(answers)} answers of the student, but {samples} are"
                    " asked for. Give more answers or lower `samples`."
                )
        return [tuple(answers[:samples]) for answers in self.given_answers]

    def column(self, name: str) -> Sequence[Any]:
        """The values of a column.

        Raises:
            ConfigError: there is no such column; the message suggests the nearest name.
        """
        if name not in self.columns:
            raise unknown_name("column", name, self.columns)
        return self.columns[name]
