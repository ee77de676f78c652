"""How much two difficulty profiles agree: rank correlation, and overlap of their subsets."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import DataError
from tutelage.types import DifficultyProfile

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ProfilePair:
    """Agreement of two profiles of the same examples.

    Attributes:
        first: name of the first profile.
        second: name of the second one.
        spearman: rank correlation in [-1, 1]; NaN when either is constant.
        overlaps: for each subset size, the share of the first profile's easiest examples that are
            among the second one's too.
    """

    first: str
    second: str
    spearman: float
    overlaps: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def average_ranks(values: FloatArray) -> FloatArray:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + 1 + ends) / 2.0)[inverse]


def spearman(a: FloatArray, b: FloatArray) -> float:
    """Spearman's rank correlation: Pearson's of the average ranks; NaN when either is constant."""
    x, y = average_ranks(np.asarray(a)), average_ranks(np.asarray(b))
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else float("nan")


def subset_overlap(first: DifficultyProfile, second: DifficultyProfile, size: int) -> float:
    """Share of the ``size`` easiest examples of one profile that are among the other's too."""
    ours = {first.ids[i] for i in first.order[:size]}
    return len(ours & {second.ids[i] for i in second.order[:size]}) / size


def compare_profiles(
    profiles: dict[str, DifficultyProfile], sizes: Sequence[int]
) -> list[ProfilePair]:
    """Every pair of profiles (CPD Table 3 compares static and dynamic ones in this way).

    Args:
        profiles: by name; all of the same examples, in any order.
        sizes: sizes of the subsets to compare, such as those of a curriculum's stages.

    Raises:
        DataError: two profiles are not of the same examples.

    References:
        Zhang and Liu, Calibrated Progressive Distillation, Findings of ACL 2026, section 6.2.
    """
    names = list(profiles)
    pairs = []
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            a, b = profiles[first], profiles[second]
            place = {example_id: i for i, example_id in enumerate(b.ids)}
            if set(place) != set(a.ids):
                raise DataError(
                    f"The profiles '{first}' and '{second}' are of different examples, so they"
                    " cannot be compared. Measure both on the same data."
                )
            other = b.scores[[place[example_id] for example_id in a.ids]]
            overlaps = tuple(subset_overlap(a, b, size) for size in sizes)
            pairs.append(ProfilePair(first, second, spearman(a.scores, other), overlaps))
    return pairs
