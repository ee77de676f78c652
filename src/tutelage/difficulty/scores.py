"""Scores of difficulty from what was measured: pure functions, higher = harder."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.components import Limits, Names, bind
from tutelage.difficulty.measurements import ExampleLosses
from tutelage.errors import DataError, unknown_name
from tutelage.generation.settings import COOLEST, HOTTEST
from tutelage.verifiers import VERIFIERS
from tutelage.verifiers import rouge_l as rouge_l_f1

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LongestAnswer = Annotated[int, Limits(1, 1_000_000)]

TEACHER_FLOOR = float(np.finfo(np.float32).eps)
"""Least loss of a teacher in a ratio, in nats per token. Losses are measured in float32, and below
this they are rounding; a ratio of 3,685, as DA-KD's Figure 3 shows one, is far from it."""


def student_loss(
    student_losses: ExampleLosses, *, reduce: Literal["mean", "sum"] = "mean"
) -> FloatArray:
    r"""Cross-entropy of the student on the answer (CPD section 3.1).

    .. math:: L_i = -\tfrac{1}{|y_i|} \sum_t \log q_0(y_{i,t} \mid x_i, y_{i,<t})

    CPD prints the sum; its iteration counts and its authors' code fit the mean over tokens, and a
    sum mostly measures length. ``reduce="sum"`` gives the printed form.

    Args:
        student_losses: summed losses and token counts.
        reduce: ``"mean"`` for nats per token, ``"sum"`` for nats.

    Returns:
        Scores, shape ``[N]``.

    Raises:
        ConfigError: ``reduce`` is neither.

    References:
        Zhang and Liu, Calibrated Progressive Distillation, Findings of ACL 2026.
    """
    return _reduced(student_losses.loss_sums, student_losses.num_tokens, reduce)


def sequence_entropy(
    student_losses: ExampleLosses, *, reduce: Literal["mean", "sum"] = "mean"
) -> FloatArray:
    r"""Entropy of the student's next-token distributions along the answer (CPD's "SE").

    .. math:: H_i = -\tfrac{1}{|y_i|} \sum_t \sum_v q_0(v \mid x_i, y_{i,<t}) \log q_0(v \mid \cdot)

    Args:
        student_losses: with ``entropy_sums``.
        reduce: ``"mean"`` for nats per token, ``"sum"`` for nats.

    Returns:
        Scores, shape ``[N]``.

    References:
        Zhu et al., Combining Curriculum Learning and Knowledge Distillation for Dialogue
        Generation, Findings of EMNLP 2021 (sentence-level entropy).
    """
    assert student_losses.entropy_sums is not None, "entropies were not measured"
    return _reduced(student_losses.entropy_sums, student_losses.num_tokens, reduce)


def _reduced(sums: FloatArray, num_tokens: IntArray, reduce: str) -> FloatArray:
    if reduce == "sum":
        return np.asarray(sums, dtype=np.float64)
    if reduce == "mean":
        return np.asarray(sums, dtype=np.float64) / np.maximum(num_tokens, 1)
    raise unknown_name("reduction", reduce, ("mean", "sum"))


def dds(student_losses: ExampleLosses, teacher_losses: ExampleLosses) -> FloatArray:
    r"""Distillation difficulty score: the student's loss over the teacher's (DA-KD).

    .. math:: DDS_i = L_q(y_i) / L_p(y_i)

    High where the teacher is sure and the student is not; about 1 where both know or both do not.
    Means and sums over tokens give the same ratio. A teacher's loss below the rounding of float32,
    1.2e-7 nats per token, counts as that.

    Args:
        student_losses: of the student.
        teacher_losses: of the teacher on the same tokens.

    Returns:
        Ratios, shape ``[N]``.

    References:
        He et al., DA-KD, ICML 2025, PMLR 267.
    """
    assert (teacher_losses.num_tokens == student_losses.num_tokens).all(), "the same answers"
    tokens = np.maximum(teacher_losses.num_tokens, 1)
    floored = np.maximum(teacher_losses.loss_sums, TEACHER_FLOOR * tokens)
    return np.asarray(student_losses.loss_sums / floored, dtype=np.float64)


def rouge_l(
    answers: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    max_new_tokens: LongestAnswer = 256,
) -> FloatArray:
    """1 minus ROUGE-L of the student's own greedy answer, the best over the references (POCL).

    Args:
        answers: one answer of the student for each example.
        references: accepted answers of each example.
        max_new_tokens: longest answer that was asked for.

    Returns:
        Scores in [0, 1], shape ``[N]``.

    References:
        Liu and Zhang, Being Strong Progressively (POCL), 2025, arXiv:2506.05695.
    """
    return np.asarray(
        [
            1.0 - rouge_l_f1(answer[0], accepted)
            for answer, accepted in zip(answers, references, strict=True)
        ]
    )


def failure_rate(
    answers: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    *,
    verifier: Annotated[Mapping[str, Any], Names("metric")],
    samples: Annotated[int, Limits(1, 1000)] = 8,
    sampling_temperature: Annotated[float, Limits(COOLEST, HOTTEST, or_zero=True)] = 1.0,
    max_new_tokens: LongestAnswer = 256,
) -> FloatArray:
    """Share of the student's sampled answers that a verifier does not accept.

    What CPD names as missing: a difficulty that knows the task. Scores of verifiers between 0 and 1
    (ROUGE-L) count as they are.

    Args:
        answers: ``samples`` answers of the student for each example.
        references: accepted answers of each example.
        verifier: ``{kind: name of a metric, options}``.
        samples: n, answers for each example.
        sampling_temperature: at which they were sampled.
        max_new_tokens: longest answer that was asked for.

    Returns:
        Scores in [0, 1], shape ``[N]``, in steps of 1/n.

    Raises:
        ConfigError: unknown verifier or option.
    """
    options = {name: value for name, value in verifier.items() if name != "kind"}
    verify = bind(VERIFIERS, "metric", verifier.get("kind", ""), options)
    return np.asarray(
        [
            1.0 - float(np.mean([verify(text, accepted) for text in texts[:samples]]))
            for texts, accepted in zip(answers, references, strict=True)
        ]
    )


def response_length(response_tokens: IntArray) -> FloatArray:
    """Tokens of the answer: longer counts as harder."""
    return np.asarray(response_tokens, dtype=np.float64)


def rationale_tokens(rationale_tokens: IntArray) -> FloatArray:
    """Tokens of the reference rationale (one of CLPD's measures).

    References:
        Cao et al., CLPD, 2026, arXiv:2605.11260.
    """
    return np.asarray(rationale_tokens, dtype=np.float64)


def column(
    column: Sequence[Any], *, name: str, higher_is: Literal["harder", "easier"] = "harder"
) -> FloatArray:
    """A column of the user's data.

    Args:
        column: its values.
        name: what it is called.
        higher_is: ``"easier"`` turns the scale around (the largest value becomes 0).

    Returns:
        Scores, shape ``[N]``.

    Raises:
        ConfigError: ``higher_is`` is neither.
        DataError: a value is no number.
    """
    if higher_is not in ("harder", "easier"):
        raise unknown_name("direction", higher_is, ("harder", "easier"))
    scores = np.empty(len(column))
    for row, value in enumerate(column):
        try:
            scores[row] = float(value)
        except (TypeError, ValueError):
            raise DataError(
                f"Row {row + 1} of the data has {value!r} in the column '{name}', which is to be"
                " the difficulty and must be a number. Mend the row, or name another column."
            ) from None
    return scores if higher_is == "harder" or not len(scores) else scores.max() - scores
