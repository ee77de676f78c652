"""The table of difficulties, and how a score gets what it needs."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from tutelage.components import Component, Limits, Names, bind, lookup
from tutelage.difficulty import scores
from tutelage.difficulty.fusion import rank_fusion
from tutelage.difficulty.measurements import Measurements
from tutelage.difficulty.rationale import rationale_steps
from tutelage.errors import DataError
from tutelage.generation.settings import GenerationSettings
from tutelage.settings import MOST

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Difficulty(Component):
    """A score and what it is made from.

    Attributes:
        needs: attributes of ``Measurements`` that it takes, by name and in order. Options
            ``samples``, ``sampling_temperature`` and ``max_new_tokens`` say which ``answers``,
            ``name`` says which ``column``.
        unit: unit of the score.
        entropies: whether the losses that it takes come with entropies.
        parts: the option that lists other difficulties; it takes the ids and the scores of these.
    """

    needs: tuple[str, ...] = ()
    unit: str = ""
    entropies: bool = False
    parts: str = ""

    def unit_of(self, options: Mapping[str, Any]) -> str:
        """The unit under some options: a sum over tokens is not per token."""
        return self.unit.replace(" per token", "") if options.get("reduce") == "sum" else self.unit


_PARTS = Names("difficulty", 2, "names at least two difficulties, which are fused.")


def _fused(
    ids: Sequence[str],
    scores: Sequence[FloatArray],
    *,
    of: Annotated[list[dict[str, Any]], _PARTS],
    k: Annotated[int, Limits(1, MOST)] = 60,
) -> FloatArray:
    """Ranks of the difficulties ``of``, fused; see ``rank_fusion``."""
    return rank_fusion(ids, scores, k=k)


DIFFICULTIES: dict[str, Difficulty] = {
    "student_loss": Difficulty(
        scores.student_loss,
        "cross-entropy of the student on the answer (CPD)",
        "Zhang and Liu 2026, CPD section 3.1",
        needs=("student_losses",),
        unit="nats per token",
    ),
    "rouge_l": Difficulty(
        scores.rouge_l,
        "1 - ROUGE-L of the student's own answer (POCL)",
        "Liu and Zhang 2025, arXiv:2506.05695",
        needs=("answers", "references"),
        unit="1 - F1",
    ),
    "dds": Difficulty(
        scores.dds,
        "student's loss over teacher's loss (DA-KD)",
        "He et al. 2025, DA-KD, PMLR 267",
        needs=("student_losses", "teacher_losses"),
        unit="ratio",
    ),
    "sequence_entropy": Difficulty(
        scores.sequence_entropy,
        "entropy of the student's predictions along the answer",
        "Zhu et al. 2021, Findings of EMNLP",
        needs=("student_losses",),
        unit="nats per token",
        entropies=True,
    ),
    "rank_fusion": Difficulty(
        _fused,
        "reciprocal rank fusion of any of these (POCL)",
        "Liu and Zhang 2025, arXiv:2506.05695",
        unit="fused ranks",
        parts="of",
    ),
    "response_length": Difficulty(
        scores.response_length, "tokens of the answer", needs=("response_tokens",), unit="tokens"
    ),
    "rationale_steps": Difficulty(
        rationale_steps,
        "steps of the reference rationale (CLPD)",
        "Cao et al. 2026, arXiv:2605.11260",
        needs=("rationales",),
        unit="steps",
    ),
    "rationale_tokens": Difficulty(
        scores.rationale_tokens,
        "tokens of the reference rationale (CLPD)",
        "Cao et al. 2026, arXiv:2605.11260",
        needs=("rationale_tokens",),
        unit="tokens",
    ),
    "failure_rate": Difficulty(
        scores.failure_rate,
        "share of the student's sampled answers that a verifier rejects",
        "asked for by Zhang and Liu 2026, CPD, Limitations",
        needs=("answers", "references"),
        unit="share of failures",
    ),
    "column": Difficulty(
        scores.column, "a column of your data", needs=("column",), unit="as given"
    ),
}
"""Difficulties by name, as ``kind`` in a recipe; `tutelage ls difficulties` prints them."""


def needs(kind: str, options: Mapping[str, Any]) -> frozenset[str]:
    """What a difficulty must have measured: attributes of ``Measurements``, and more of them.

    ``entropies`` come with the losses, and ``sampled_answers`` says that answers are not greedy.

    Raises:
        ConfigError: there is no such difficulty.
    """
    row = _row(kind)
    parts = [needs(*_split(part)) for part in options.get(row.parts, ())]
    own = {*row.needs, *(("entropies",) if row.entropies else ())}
    if "answers" in own and _warmth(row, options) > 0:
        own.add("sampled_answers")
    return frozenset(own).union(*parts)


def _row(kind: str) -> Difficulty:
    row = lookup(DIFFICULTIES, "difficulty", kind)
    assert isinstance(row, Difficulty)
    return row


def _warmth(row: Difficulty, options: Mapping[str, Any]) -> float:
    """The sampling temperature of the answers that a difficulty asks for; 0 is greedy."""
    return {"sampling_temperature": 0.0, **_defaults(row), **options}["sampling_temperature"]


def _split(spec: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return str(spec.get("kind", "")), {k: v for k, v in spec.items() if k != "kind"}


def score_examples(kind: str, options: Mapping[str, Any], measurements: Measurements) -> FloatArray:
    """Score every example.

    Args:
        kind: name of a difficulty.
        options: its options.
        measurements: read only where the score needs them.

    Returns:
        Scores in the order of ``measurements.ids``, shape ``[N]``, higher = harder.

    Raises:
        ConfigError: unknown difficulty or option.
        DataError: a score is not finite, or something needed was not given.
    """
    _check(kind, options)  # all parts are looked at before the first is measured
    row = _row(kind)
    score = functools.partial(row.function, **options)
    if row.parts:
        scores = [score_examples(*_split(part), measurements) for part in options[row.parts]]
        return np.asarray(score(measurements.ids, scores), dtype=np.float64)
    arguments = [_measured(name, row, options, measurements) for name in row.needs]
    for name, value in zip(row.needs, arguments, strict=True):
        if value is None:
            raise DataError(
                f"The difficulty '{kind}' needs `{name}`, which was not given. Measure"
                " it, or choose another difficulty."
            )
    found = np.asarray(score(*arguments), dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(found))
    if bad.size:
        raise DataError(
            f"The difficulty '{kind}' of example '{measurements.ids[int(bad[0])]}' is"
            f" {found[bad[0]]} ({bad.size} such in all). Remove these examples, or measure in"
            " float32."
        )
    return found


def _check(kind: str, options: Mapping[str, Any]) -> None:
    """Make sure that a difficulty and its parts have the options that they are given."""
    bind(DIFFICULTIES, "difficulty", kind, options)
    for part in options.get(_row(kind).parts, ()):
        _check(*_split(part))


def _measured(
    name: str, row: Difficulty, options: Mapping[str, Any], measurements: Measurements
) -> Any:
    if name == "column":
        return measurements.column(options["name"])
    if name != "answers":
        return getattr(measurements, name)
    asked = {"samples": 1, **_defaults(row), **options}
    return measurements.answers(
        asked["samples"],
        _warmth(row, options),
        asked.get("max_new_tokens", GenerationSettings.max_new_tokens),
    )


def _defaults(row: Difficulty) -> dict[str, Any]:
    """The options of a difficulty as they are when a recipe does not give them."""
    return {name: option.default for name, option in row.options.items()}
