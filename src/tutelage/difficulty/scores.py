"""Scores of difficulty from what was measured: pure functions of arrays, higher = harder."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import unknown_name

FloatArray = NDArray[np.float64]


def student_loss(
    loss_sums: FloatArray, num_tokens: NDArray[np.int64], *, reduce: Literal["mean", "sum"] = "mean"
) -> FloatArray:
    r"""Cross-entropy of the untrained student on the answer (CPD section 3.1).

    .. math:: L_i = -\tfrac{1}{|y_i|} \sum_t \log q_0(y_{i,t} \mid x_i, y_{i,<t})

    CPD prints the sum; its iteration counts and its authors' code fit the mean over tokens, and a
    sum mostly measures length. ``reduce="sum"`` gives the printed form.

    Args:
        loss_sums: summed negative log-probability of each answer in nats, shape ``[N]``.
        num_tokens: response tokens of each answer, shape ``[N]``.
        reduce: ``"mean"`` for nats per token, ``"sum"`` for nats.

    Returns:
        Scores, shape ``[N]``.

    Raises:
        ConfigError: ``reduce`` is neither.

    References:
        Zhang and Liu, Calibrated Progressive Distillation, Findings of ACL 2026.
    """
    if reduce == "sum":
        return np.asarray(loss_sums, dtype=np.float64)
    if reduce == "mean":
        return np.asarray(loss_sums, dtype=np.float64) / np.maximum(num_tokens, 1)
    raise unknown_name("reduction of student_loss", reduce, ("mean", "sum"))
