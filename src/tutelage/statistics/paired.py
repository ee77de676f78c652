"""Tests of whether two models differ on the same questions.

All are two-sided. Each says beside its p the least one that it could have given: with five answers
that differ no p is below 0.06, however they fall.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.errors import DataError
from tutelage.statistics.intervals import cluster_numbers

_EXACT_WILCOXON = 50
"""Up to so many untied pairs all signs are counted; 2 to that power is exact in 64 bits."""

_EXACT_FLIPS = 16
"""Up to so many clusters all signs are tried."""

_FLIPS = 9999
"""Signs that are drawn otherwise."""

_SIGNS_AT_ONCE = 1_000_000
"""Drawn signs in memory at once (8 MB)."""

_DIGITS = 12
"""Differences that are equal in so many digits of the largest score are equal: 0.3 - 0.2 = 0.1."""


@dataclass(frozen=True)
class PairedTest:
    """What a two-sided test of paired scores gives.

    Attributes:
        name: of the test, with how it deals with ties.
        p: the chance of a difference at least as large, were the two models the same.
        least_p: the least p that is possible with so many untied pairs.
        num_untied: pairs (or clusters of pairs) whose scores differ; the others tell nothing.
    """

    name: str
    p: float
    least_p: float
    num_untied: int


def paired_test(
    first: ArrayLike, second: ArrayLike, clusters: Sequence[str] | None = None, *, seed: int = 0
) -> PairedTest:
    """The test that fits the scores of two models on the same questions.

    - Questions that share a cluster are not independent, as the two others take them to be: signs
      of whole clusters are flipped.
    - Scores that are 0 or 1: McNemar's test, exact.
    - Others: Wilcoxon's signed-rank test.

    Args:
        first: scores of the first model, shape ``[N]``.
        second: of the second model, in the same order.
        clusters: a name for each pair; pairs with the same one depend on each other, an empty name
            is a cluster of its own. None: all pairs are independent.
        seed: of the signs that are drawn where there are many clusters.

    Raises:
        DataError: no pairs, or scores that are not finite.
    """
    pairs = np.array([first, second], dtype=np.float64).reshape(2, -1)
    if not pairs.size or not np.isfinite(pairs).all():
        raise DataError(
            f"A test of {pairs.shape[1]} pairs needs at least one pair and finite scores. Leave"
            " questions out that one of the two has no score for."
        )
    differences = _differences(pairs)
    numbers = cluster_numbers(clusters, differences.size)
    if numbers.max() + 1 < differences.size:
        # Rounded once more: a sum that is nothing but rounding is a tie.
        sums = np.bincount(numbers, weights=differences).astype(np.float64)
        return sign_flip(_rounded(sums, float(np.abs(differences).sum())), seed=seed)
    if np.isin(pairs, (0.0, 1.0)).all():
        return mcnemar(int((differences > 0).sum()), int((differences < 0).sum()))
    return wilcoxon(differences)


def mcnemar(first_only: int, second_only: int) -> PairedTest:
    """McNemar's exact test of 0/1 scores: a fair coin decides each question that only one got.

    Args:
        first_only: questions that only the first model answered right.
        second_only: questions that only the second one answered right.

    References:
        McNemar, Note on the sampling error of the difference between correlated proportions, 1947.
    """
    untied, fewer = first_only + second_only, min(first_only, second_only)
    # Whole numbers, so that nothing is rounded before the division.
    ways, total = 1, 1
    for i in range(fewer):
        ways = ways * (untied - i) // (i + 1)
        total += ways
    return PairedTest(
        "McNemar's test, exact", min(1.0, 2 * total / 2**untied), _least(untied), untied
    )


def wilcoxon(differences: ArrayLike) -> PairedTest:
    """Wilcoxon's signed-rank test of paired differences.

    Zeros are left out (Wilcoxon's way) and equal sizes share their mean rank. Up to 50 pairs the
    signs of these ranks are counted exactly; above that the sum of ranks is taken for normal, with
    its variance corrected for ties and without correction for continuity.

    Args:
        differences: first minus second of each pair, finite.

    References:
        Wilcoxon, Individual comparisons by ranking methods, 1945. Pratt and Gibbons, Concepts of
        Nonparametric Theory, 1981, chapter 3.
    """
    values = np.asarray(differences, dtype=np.float64).ravel()
    values = values[values != 0]
    untied = values.size
    name = "Wilcoxon's signed-rank test, {}, zeros left out and mean ranks for ties"
    if not untied:
        return PairedTest(name.format("exact"), 1.0, 1.0, 0)
    _, inverse, sizes = np.unique(np.abs(values), return_inverse=True, return_counts=True)
    # Twice the mean rank of each size is a whole number.
    doubled = (2 * np.cumsum(sizes) - sizes + 1)[inverse]
    positive = int(doubled[values > 0].sum())
    if untied <= _EXACT_WILCOXON:
        p = _exact_ranks(doubled, positive)
        return PairedTest(name.format("exact"), p, _least(untied), untied)
    total = int(doubled.sum())
    variance = untied * (untied + 1) * (2 * untied + 1) / 24 - (sizes**3 - sizes).sum() / 48
    deviation = 2 * math.sqrt(variance)

    def normal(ranks: int) -> float:
        return math.erfc(abs(ranks - total / 2) / deviation / math.sqrt(2))

    return PairedTest(name.format("normal approximation"), normal(positive), normal(0), untied)


def sign_flip(differences: ArrayLike, *, seed: int = 0) -> PairedTest:
    """Permutation test of a sum of differences: were the models the same, any sign is as likely.

    All signs are tried for up to 16 differences that are not zero; otherwise 9,999 are drawn, and
    the data themselves count as one more.

    Args:
        differences: first minus second of each pair, or their sum over each cluster; finite.
        seed: of the drawing.

    References:
        Fisher, The Design of Experiments, 1935, section 21. Phipson and Smyth, Permutation P-values
        Should Never Be Zero, 2010.
    """
    values = np.asarray(differences, dtype=np.float64).ravel()
    values = values[values != 0]
    untied = values.size
    if not untied:
        return PairedTest("sign-flip test, exact", 1.0, 1.0, 0)
    # Sums that only rounding keeps apart are equal.
    bound = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    if untied <= _EXACT_FLIPS:
        bits = np.arange(2**untied)[:, None] >> np.arange(untied) & 1
        reached = np.abs((2 * bits - 1) @ values) >= bound
        return PairedTest("sign-flip test, exact", float(reached.mean()), _least(untied), untied)
    rng, reached, rows = np.random.default_rng(seed), 1, max(1, _SIGNS_AT_ONCE // untied)
    for start in range(0, _FLIPS, rows):
        bits = rng.integers(0, 2, size=(min(rows, _FLIPS - start), untied))
        reached += int((np.abs((2 * bits - 1) @ values) >= bound).sum())
    least = 1 / (_FLIPS + 1)
    return PairedTest(f"sign-flip test, {_FLIPS:,} drawn", reached * least, least, untied)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of several tests, adjusted so that any false alarm among them is as rare as said.

    The smallest is multiplied by their number, the next by one less, and so on; none becomes
    smaller than one before it, or larger than 1.

    Args:
        p_values: of the tests, in any order.

    References:
        Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1))
    return np.minimum(adjusted, 1.0).tolist()


def _differences(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """First minus second, where differences that only rounding keeps apart are equal."""
    return _rounded(pairs[0] - pairs[1], float(np.abs(pairs).max()))


def _rounded(values: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    return np.round(values / scale, _DIGITS) * scale if scale > 0 else values


def _exact_ranks(doubled: NDArray[np.int64], positive: int) -> float:
    """Two-sided p of a sum of ranks, over all signs; both as twice their value."""
    ways = np.zeros(int(doubled.sum()) + 1, dtype=np.int64)
    ways[0] = 1
    for rank in doubled:
        ways[rank:] += ways[:-rank].copy()
    tail = min(int(ways[: positive + 1].sum()), int(ways[positive:].sum()))
    return min(1.0, 2 * tail / 2**doubled.size)


def _least(untied: int) -> float:
    """The p when all untied pairs say the same, over all signs."""
    return min(1.0, 2 / 2**untied)
