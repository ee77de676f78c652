"""Intervals by resampling examples: pure functions of numbers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tutelage.errors import ConfigError, DataError

_DRAWN_AT_ONCE = 1_000_000
"""Resampled positions in memory at once (8 MB)."""


@dataclass(frozen=True)
class PairedDifference:
    """The mean difference between two models over the same examples.

    Attributes:
        mean: mean of first minus second.
        interval: its interval, by bootstrap over examples.
        num_examples: how many examples both have.
    """

    mean: float
    interval: tuple[float, float]
    num_examples: int


def bootstrap_interval(
    values: ArrayLike, *, confidence: float = 0.95, samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    r"""Percentile-bootstrap interval of a mean.

    Examples are drawn with replacement; the interval lies between the
    :math:`(1 - c) / 2` and :math:`(1 + c) / 2` quantiles of the means.

    Args:
        values: one value for each example, shape ``[N]``. A single one gives an interval of width
            0, which says nothing about others.
        confidence: c, the share of means inside, between 0 and 1.
        samples: how many data sets are drawn.
        seed: of the drawing; the same arguments always give the same interval.

    Returns:
        The lower and the upper end.

    Raises:
        DataError: no value, or one that is not finite.
        ConfigError: a confidence that is not between 0 and 1, or no sample.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    if not array.size or not np.isfinite(array).all():
        raise DataError(
            f"An interval needs finite values, got {array.size} of which"
            f" {int(np.isfinite(array).sum())} are finite. Leave examples without a score out."
        )
    if not 0.0 < confidence < 1.0 or samples < 1:
        raise ConfigError(
            f"An interval needs a confidence between 0 and 1 and at least one sample, got"
            f" {confidence=} and {samples=}. Use 0.95 and 1000."
        )
    rng = np.random.default_rng(seed)
    means = np.empty(samples)
    rows = max(1, _DRAWN_AT_ONCE // array.size)
    for start in range(0, samples, rows):
        stop = min(start + rows, samples)
        drawn = rng.integers(0, array.size, size=(stop - start, array.size))
        means[start:stop] = array[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def paired_difference(
    values_a: Mapping[str, float],
    values_b: Mapping[str, float],
    *,
    confidence: float = 0.95,
    samples: int = 1000,
    seed: int = 0,
) -> PairedDifference:
    """Mean of first minus second over the examples that both have, with its interval.

    Examples are drawn in pairs, which takes out how hard an example is for both.

    Args:
        values_a: the first model's value by example id.
        values_b: the second model's value by example id.
        confidence: as in :func:`bootstrap_interval`.
        samples: as in :func:`bootstrap_interval`.
        seed: as in :func:`bootstrap_interval`.

    Raises:
        DataError: the two share no example id, or a difference is not finite.
        ConfigError: as in :func:`bootstrap_interval`.
    """
    # Sorted, so that the drawing does not depend on the order in which examples were stored.
    shared = sorted(values_a.keys() & values_b.keys())
    if not shared:
        raise DataError(
            f"The two sets of {len(values_a)} and {len(values_b)} values share no example id, so"
            " they cannot be compared. Evaluate both models on the same data."
        )
    differences = np.array([values_a[key] - values_b[key] for key in shared])
    interval = bootstrap_interval(differences, confidence=confidence, samples=samples, seed=seed)
    return PairedDifference(float(differences.mean()), interval, len(shared))
