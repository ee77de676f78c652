"""The table of difficulties, and how a score gets what it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.components import Component, bind, lookup
from tutelage.difficulty import scores
from tutelage.difficulty.fusion import rank_fusion
from tutelage.difficulty.measurements import Measurements
from tutelage.difficulty.rationale import rationale_steps
from tutelage.errors import DataError


@dataclass(frozen=True)
class Difficulty(Component):
    """A score and what it is made from.

    Attributes:
        needs: attributes of ``Measurements`` that it takes, by name and in order.
        unit: unit of the score.
        samples: answers of the student that it needs when the recipe does not say; 1 is greedy.
    """

    needs: tuple[str, ...] = ()
    unit: str = ""
    samples: int = 1

    def unit_of(self, options: Mapping[str, Any]) -> str:
        """The unit under some options: a sum over tokens is not per token."""
        return self.unit.replace(" per token", "") if options.get("reduce") == "sum" else self.unit


def _fused(*, of: list[dict[str, Any]], k: int = 60) -> None:
    """Stands for ``rank_fusion`` in the table: its scores are measured one by one first."""


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
    ),
    "rank_fusion": Difficulty(
        _fused,
        "reciprocal rank fusion of any of these (POCL)",
        "Liu and Zhang 2025, arXiv:2506.05695",
        unit="fused ranks",
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
        samples=8,
    ),
    "column": Difficulty(
        scores.column, "a column of your data", needs=("column",), unit="as given"
    ),
}


def needs(kind: str, options: Mapping[str, Any]) -> frozenset[str]:
    """What a difficulty must have measured: attributes of ``Measurements``, and more of them.

    ``entropies`` come with the losses, and ``sampled_answers`` says that answers are not greedy.

    Raises:
        ConfigError: there is no such difficulty.
    """
    if kind == "rank_fusion":
        parts = [needs(*_split(part)) for part in options.get("of", ())]
        return frozenset().union(*parts)
    found = set(lookup(DIFFICULTIES, "difficulty", kind).needs)  # type: ignore[attr-defined]
    if kind == "sequence_entropy":
        found.add("entropies")
    if "answers" in found and _warmth(DIFFICULTIES[kind], options) > 0:
        found.add("sampled_answers")
    return frozenset(found)


def _warmth(row: Difficulty, options: Mapping[str, Any]) -> float:
    """The sampling temperature of the answers that a difficulty asks for; 0 is greedy."""
    return (
        options.get("sampling_temperature", 1.0) if "sampling_temperature" in row.options else 0.0
    )


def _split(spec: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return str(spec.get("kind", "")), {k: v for k, v in spec.items() if k != "kind"}


def score_examples(
    kind: str, options: Mapping[str, Any], measurements: Measurements
) -> NDArray[np.float64]:
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
    if kind == "rank_fusion":
        bind(DIFFICULTIES, "difficulty", kind, options)
        for part in options["of"]:
            # All of them are looked at before the first is measured.
            kind_of, options_of = _split(part)
            if kind_of != "rank_fusion":
                bind(DIFFICULTIES, "difficulty", kind_of, options_of)
        parts = [score_examples(*_split(part), measurements) for part in options["of"]]
        return rank_fusion(measurements.ids, parts, k=options.get("k", 60))
    score = bind(DIFFICULTIES, "difficulty", kind, options)
    row = DIFFICULTIES[kind]
    arguments = [_measured(name, row, options, measurements) for name in row.needs]
    for name, value in zip(row.needs, arguments, strict=True):
        if value is None:
            raise DataError(f"The difficulty '{kind}' needs `{name}`, which was not given.")
    found = np.asarray(score(*arguments), dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(found))
    if bad.size:
        raise DataError(
            f"The difficulty '{kind}' of example '{measurements.ids[int(bad[0])]}' is"
            f" {found[bad[0]]} ({bad.size} such in all). Remove these examples, or measure in"
            " float32."
        )
    return found


def _measured(
    name: str, row: Difficulty, options: Mapping[str, Any], measurements: Measurements
) -> Any:
    if name == "column":
        return measurements.column(options["name"])
    if name != "answers":
        return getattr(measurements, name)
    samples = options.get("samples", row.samples)
    warm = _warmth(row, options)
    return measurements.answers(samples, warm, options.get("max_new_tokens", 256))
