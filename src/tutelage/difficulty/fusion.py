"""Reciprocal rank fusion of several difficulties. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import ConfigError
from tutelage.ids import Ids

FloatArray = NDArray[np.float64]


def rank_fusion(ids: Sequence[str], scores: Sequence[FloatArray], *, k: int = 60) -> FloatArray:
    r"""Fuse rankings; an example that any of them finds easy comes early.

    With ranks from 1 for the easiest, an example's fused score is
    :math:`s_i = \sum_j 1 / (k + r_{ij})`, larger for easier. What is returned is
    :math:`J/(k+1) - s_i \ge 0`, so that higher is harder. Ties within a score are broken by id, as
    everywhere.

    Args:
        ids: example ids.
        scores: J arrays of shape ``[N]``, higher = harder.
        k: how much the first ranks stand out; POCL and the retrieval literature use 60.

    Returns:
        Scores, shape ``[N]``.

    Raises:
        ConfigError: fewer than two scores, or k is not positive.

    References:
        Cormack et al., Reciprocal Rank Fusion, SIGIR 2009; Liu and Zhang (POCL), 2025,
        arXiv:2506.05695.
    """
    if len(scores) < 2 or k < 1:
        raise ConfigError(
            f"rank_fusion needs at least two scores and a positive k, got {len(scores)} scores and"
            f" k={k}. Write for example of: [{{kind: rouge_l}}, {{kind: student_loss}}]."
        )
    names = Ids.of(ids)
    fused = np.zeros(len(names))
    for values in scores:
        order = names.order_by(np.asarray(values, dtype=np.float64))
        fused[order] += 1.0 / (k + np.arange(1.0, len(names) + 1))
    # Rounding may leave the easiest of all a hair below 0.
    return np.maximum(len(scores) / (k + 1) - fused, 0.0)
