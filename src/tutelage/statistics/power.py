"""How many examples it takes to tell two models apart."""

import math
from statistics import NormalDist

from tutelage.statistics.intervals import CONFIDENCE

POWER = 0.8
"""The share of test sets of a size that are to show a difference that is there."""


def smallest_difference(error: float, power: float = POWER) -> float:
    r"""The difference that a test with this standard error shows with a given chance.

    .. math:: (z_{0.975} + z_{power}) \cdot SE

    Args:
        error: standard error of the mean difference, paired.
        power: the chance, in (0, 1).

    References:
        Miller, Adding Error Bars to Evals, 2024, arXiv:2411.00640, section 5.
    """
    normal = NormalDist()
    return (normal.inv_cdf((1 + CONFIDENCE) / 2) + normal.inv_cdf(power)) * error


def examples_needed(
    difference: float, error: float, count: int, power: float = POWER
) -> int | None:
    r"""How many examples show a difference of this size, were it the true one.

    .. math:: N \cdot \left(\frac{(z_{0.975} + z_{power}) \cdot SE}{d}\right)^2

    since the standard error falls with the root of the number of examples, of the same kind and in
    clusters of the same size.

    Args:
        difference: mean of the paired differences, d.
        error: its standard error over the examples that there are.
        count: how many these are, N.
        power: the chance of showing it, in (0, 1).

    Returns:
        The number of examples; None where there is no difference to show.

    Examples:
        >>> examples_needed(0.02, 0.02, 500)
        3925
    """
    if difference == 0 or not math.isfinite(error):
        return None
    return math.ceil(count * (smallest_difference(error, power) / difference) ** 2)
