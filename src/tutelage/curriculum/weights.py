"""Weights of examples by their difficulty: how much each counts in the loss of a step. Pure.

A weight function takes the scores of all examples and their places in the order of difficulty, from
0 for the easiest to 1 for the hardest, both of shape ``[N]``, and gives weights of that shape. A
step divides by the weights of its tokens, so that only their ratios count.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from tutelage.components import Component, Limits
from tutelage.errors import ConfigError

FloatArray = NDArray[np.float64]


def pass_rate(
    scores: FloatArray, places: FloatArray, *, floor: Annotated[float, Limits(0, 1)] = 0.1
) -> FloatArray:
    r"""PACED's weights: what the student sometimes solves counts most.

    .. math:: \max\big(f,\; 4\,p\,(1 - p)\big)

    with p the student's pass rate, 1 less the difficulty ``failure_rate``.

    Args:
        scores: shares of failures.
        places: not used.
        floor: f; with 0 an example that the student always or never solves teaches nothing, as in
            the paper, which measures the rate again and again.

    Returns:
        Shape ``[N]``, in [f, 1].

    Raises:
        ConfigError: a score is no share.

    References:
        Xu et al., PACED, 2026, arXiv:2603.11178.
    """
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ConfigError(
            f"The weights `pass_rate` need shares of failures, and difficulties here lie between"
            f" {scores.min():.4g} and {scores.max():.4g}. Measure difficulty: {{kind:"
            " failure_rate}, or use the weights `middle`, which go by rank."
        )
    return np.maximum(floor, 4.0 * scores * (1.0 - scores))


def middle(
    scores: FloatArray, places: FloatArray, *, floor: Annotated[float, Limits(0, 1)] = 0.1
) -> FloatArray:
    r"""The same by rank, for any difficulty: the middle of the data counts most.

    .. math:: \max\big(f,\; 4\,u\,(1 - u)\big)

    Args:
        scores: not used.
        places: u.
        floor: f.

    Returns:
        Shape ``[N]``, in [f, 1].

    References:
        After Xu et al., PACED, 2026, arXiv:2603.11178.
    """
    return np.maximum(floor, 4.0 * places * (1.0 - places))


EXAMPLE_WEIGHTS: dict[str, Component] = {
    "pass_rate": Component(
        pass_rate,
        "p (1 - p) of the student's pass rate, for the difficulty failure_rate (PACED)",
        "Xu et al. 2026, arXiv:2603.11178",
    ),
    "middle": Component(
        middle,
        "the same of the rank of any difficulty: most in the middle of the data",
        "after Xu et al. 2026, arXiv:2603.11178",
    ),
}
