"""Intervals by resampling examples: pure functions of numbers, for scores and reports alike."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.errors import DataError

CONFIDENCE = 0.95
"""Share of resampled statistics within an interval."""

RESAMPLES = 2000
"""Data sets that are drawn, where a caller has no reason for another number."""

_DRAWN_AT_ONCE = 1_000_000
"""Resampled positions in memory at once (8 MB)."""


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval; without an interval both ends are NaN."""

    mean: float
    low: float = math.nan
    high: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is an interval around the mean."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.known and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Difference:
    """The mean difference of two models over the same examples.

    Attributes:
        interval: mean of first minus second, with its 95 % interval.
        num_examples: how many example ids both have answered.
    """

    interval: Interval
    num_examples: int


def draws(count: int, resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Positions of examples drawn with replacement, as many as there are.

    Args:
        count: number of examples, N.
        resamples: how many data sets are drawn.
        rng: draws them; what is drawn does not depend on how many are in memory at once.

    Yields:
        Some of the data sets, shape ``[R, N]``.
    """
    rows = max(1, _DRAWN_AT_ONCE // count)
    for start in range(0, resamples, rows):
        yield rng.integers(0, count, size=(min(rows, resamples - start), count))


def percentile_interval(resampled: ArrayLike) -> tuple[float, float]:
    """The middle 95 % of a statistic's values on resampled data sets."""
    low, high = np.quantile(np.asarray(resampled), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def bootstrap(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """A mean with its percentile-bootstrap interval over examples.

    Args:
        values: one finite value for each example, shape ``[N]``.
        resamples: how many data sets are drawn.
        seed: of the drawing; the same arguments always give the same interval.

    Returns:
        Mean and interval; one example alone has no interval.

    Raises:
        DataError: no value, or one that is not finite.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    array = np.asarray(values, dtype=np.float64).ravel()
    if not array.size or not np.isfinite(array).all():
        raise DataError(
            f"An interval needs finite values, got {array.size} of which"
            f" {int(np.isfinite(array).sum())} are finite. Leave examples without a score out."
        )
    mean = float(array.mean())
    if array.size < 2:
        return Interval(mean)
    drawn = draws(array.size, resamples, np.random.default_rng(seed))
    means = np.concatenate([array[chunk].mean(axis=1) for chunk in drawn])
    return Interval(mean, *percentile_interval(means))


def paired_difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference | None:
    """The mean of first minus second over the example ids that both have, with its interval.

    Examples are resampled in pairs, which takes out the difficulty that an example has for both.

    Args:
        first: value by example id.
        second: value by example id.
        resamples: as in :func:`bootstrap`.
        seed: as in :func:`bootstrap`.

    Returns:
        The difference, or None when the two share no example.

    Raises:
        DataError: a difference is not finite.
    """
    # Sorted, so that the drawing does not depend on the order in which examples were stored.
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return None
    differences = np.array([first[i] - second[i] for i in shared], dtype=np.float64)
    return Difference(bootstrap(differences, resamples=resamples, seed=seed), len(shared))
