"""Intervals around a mean: by resampling examples, or clusters of examples that belong together."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

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


def cluster_numbers(clusters: Sequence[str] | None, count: int) -> NDArray[np.int64]:
    """The number of each value's cluster, from 0 in order of appearance, shape ``[N]``.

    Args:
        clusters: a name for each value; an empty one is a cluster of its own. None: all are.
        count: number of values, N.
    """
    if clusters is None:
        return np.arange(count)
    places: dict[Any, int] = {}
    named = zip(range(count), clusters, strict=True)
    return np.array(
        [places.setdefault(name or place, len(places)) for place, name in named], dtype=np.int64
    )


def bootstrap(
    values: ArrayLike,
    *,
    clusters: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """A mean with its percentile-bootstrap interval over examples, or over clusters of them.

    Args:
        values: one finite value for each example, shape ``[N]``.
        clusters: a name for each example; those with the same one (questions about one passage) are
            drawn together. An empty name is a cluster of its own. None: all examples are.
        resamples: how many data sets are drawn.
        seed: of the drawing; the same arguments always give the same interval.

    Returns:
        Mean and interval; one example (or cluster) alone has no interval.

    Raises:
        DataError: no value, or one that is not finite.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13. Miller, Adding
        Error Bars to Evals, 2024, arXiv:2411.00640, on clusters.
    """
    array = _finite(values)
    mean = float(array.mean())
    numbers = cluster_numbers(clusters, array.size)
    count = int(numbers.max()) + 1
    if count < 2:
        return Interval(mean)
    drawn = draws(count, resamples, np.random.default_rng(seed))
    if count == array.size:
        means = np.concatenate([array[chunk].mean(axis=1) for chunk in drawn])
    else:
        sums, sizes = np.bincount(numbers, weights=array), np.bincount(numbers)
        means = np.concatenate(
            [sums[chunk].sum(axis=1) / sizes[chunk].sum(axis=1) for chunk in drawn]
        )
    return Interval(mean, *percentile_interval(means))


def bootstrap_sums(
    sums: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    clusters: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """A number made from sums over all examples, with its percentile-bootstrap interval.

    A mean of all tokens of some texts is such a number, and no mean over texts: texts that are
    drawn twice count with all their tokens.

    Args:
        sums: of each example, shape ``[N, K]``.
        statistic: from sums over examples, shape ``[R, K]``, to the number of each, ``[R]``.
        clusters: as in :func:`bootstrap`.
        resamples: how many data sets are drawn.
        seed: of the drawing.

    Returns:
        The number of all examples, and its interval; one example alone has no interval.

    Raises:
        DataError: no example, or a sum that is not finite.

    Examples:
        >>> nats, tokens = [[20.0, 10.0], [90.0, 30.0]], lambda s: s[:, 0] / s[:, 1]
        >>> bootstrap_sums(nats, tokens).mean
        2.75
    """
    array = np.asarray(sums, dtype=np.float64)
    _finite(array)
    numbers = cluster_numbers(clusters, len(array))
    count = int(numbers.max()) + 1
    by_cluster = np.zeros((count, array.shape[1]))
    np.add.at(by_cluster, numbers, array)
    value = float(statistic(by_cluster.sum(axis=0, keepdims=True))[0])
    if count < 2:
        return Interval(value)
    found = [
        statistic(np.stack([np.bincount(row, minlength=count) for row in drawn]) @ by_cluster)
        for drawn in draws(count, resamples, np.random.default_rng(seed))
    ]
    return Interval(value, *percentile_interval(np.concatenate(found)))


def standard_error(values: ArrayLike, clusters: Sequence[str] | None = None) -> float:
    r"""The standard error of a mean, with examples of one cluster depending on each other.

    .. math:: \sqrt{\frac{G}{G - 1}} \cdot \frac1N
        \sqrt{\sum_{g=1}^G \Big(\sum_{i \in g} (x_i - \bar x)\Big)^2}

    over G clusters. With clusters of one it is the usual :math:`s / \sqrt N`; without the first
    factor, a little too small where clusters are few, it is Miller's for large N.

    Args:
        values: one finite value for each example, shape ``[N]``.
        clusters: as in :func:`bootstrap`.

    Returns:
        The standard error; NaN for a single example or cluster.

    Raises:
        DataError: no value, or one that is not finite.

    References:
        Liang and Zeger, Longitudinal data analysis using generalized linear models, 1986. Miller,
        Adding Error Bars to Evals, 2024, arXiv:2411.00640.
    """
    array = _finite(values)
    numbers = cluster_numbers(clusters, array.size)
    count = int(numbers.max()) + 1
    if count < 2:
        return math.nan
    residuals = np.bincount(numbers, weights=array - array.mean())
    return math.sqrt(count / (count - 1) * float((residuals**2).sum())) / array.size


def wilson_interval(successes: int, total: int) -> Interval:
    """A share with its 95 % score interval, which has a width where all or none succeeded.

    Args:
        successes: how many succeeded.
        total: of how many, independent of each other.

    Raises:
        DataError: there is nothing to have a share of, or more successes than that.

    References:
        Wilson, Probable inference, the law of succession, and statistical inference, 1927.
    """
    if not 0 <= successes <= total or not total:
        raise DataError(
            f"A share needs at least one case and no more successes than cases, got {successes} of"
            f" {total}."
        )
    z, share = NormalDist().inv_cdf((1 + CONFIDENCE) / 2), successes / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    # At both ends the formula gives 0 and 1, to rounding.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == total else middle + half
    return Interval(share, low, high)


def interval_of_alike(values: ArrayLike, clusters: Sequence[str] | None = None) -> Interval | None:
    """Wilson's interval where all answers are right, or all wrong: resampling finds no width there.

    Args:
        values: a score for each example, shape ``[N]``.
        clusters: as in :func:`bootstrap`.

    Returns:
        The interval; None where scores differ or are graded, or examples share clusters.
    """
    found = np.asarray(values, dtype=np.float64).ravel()
    if not found.size or any(clusters or ()) or not np.isin(found, (0.0, 1.0)).all():
        return None
    if found.min() != found.max():
        return None
    return wilson_interval(int(found.sum()), found.size)


def paired_difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    clusters: Mapping[str, str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference | None:
    """The mean of first minus second over the example ids that both have, with its interval.

    Examples are resampled in pairs, which takes out the difficulty that an example has for both.

    Args:
        first: value by example id.
        second: value by example id.
        clusters: name of the cluster by example id, as in :func:`bootstrap`.
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
    named = None if clusters is None else [clusters.get(i, "") for i in shared]
    found = bootstrap(differences, clusters=named, resamples=resamples, seed=seed)
    return Difference(found, len(shared))


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    """The values as an array; refused where there are none, or one is not finite."""
    array = np.asarray(values, dtype=np.float64).ravel()
    if not array.size or not np.isfinite(array).all():
        raise DataError(
            f"An interval needs finite values, got {array.size} of which"
            f" {int(np.isfinite(array).sum())} are finite. Leave examples without a score out."
        )
    return array
