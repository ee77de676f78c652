"""How numbers are written for people, and intervals by resampling."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

MISSING = "-"
RESAMPLES = 2000
_CHUNK = 2_000_000  # resampled indices held at once (16 MB)


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


def bootstrap(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean with a 95 % percentile-bootstrap interval over examples.

    Args:
        values: one value for each example, shape ``[N]``, N >= 1.
        resamples: how many data sets are drawn with replacement.
        seed: of the drawing, so that the same values always give the same interval.

    Returns:
        Mean and interval; one example alone has no interval.
    """
    array = np.asarray(values, dtype=np.float64)
    count = array.size
    mean = float(array.mean())
    if count < 2:
        return Interval(mean)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    rows = max(1, _CHUNK // count)
    for start in range(0, resamples, rows):
        chunk = min(rows, resamples - start)
        drawn = generator.integers(0, count, size=(chunk, count))
        means[start : start + chunk] = array[drawn].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(mean, float(low), float(high))


def paired_difference(
    first: Mapping[str, float], second: Mapping[str, float], *, seed: int = 0
) -> Difference | None:
    """The mean of first minus second over the example ids that both have, with its interval.

    Examples are resampled in pairs, which takes out the difficulty that an example has for both.

    Args:
        first: value by example id.
        second: value by example id.
        seed: of the resampling.

    Returns:
        The difference, or None when the two share no example.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return None
    differences = np.array([first[i] - second[i] for i in shared], dtype=np.float64)
    return Difference(bootstrap(differences, seed=seed), len(shared))


def number(value: float | None, digits: int = 3) -> str:
    """A number with about ``digits`` significant digits, exponents for tiny ones only."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 10 ** max(digits, 1):
        return f"{value:,.0f}"
    if size < 1e-4:
        return f"{value:.1e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(size)))
    return f"{value:.{decimals}f}"


def count(value: float | None) -> str:
    """A whole number with commas between thousands."""
    return MISSING if value is None or not math.isfinite(value) else f"{round(value):,}"


def fixed(value: float | None, decimals: int = 2) -> str:
    """A number with a fixed count of decimals."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.{decimals}f}"


def small(value: float | None) -> str:
    """A number with two decimals, where a trace of something is not written as nothing."""
    if value is not None and 0 < value < 0.005:
        return "<0.01"
    return fixed(value)


def percent(share: float | None, decimals: int = 1) -> str:
    """A share in [0, 1] as a percentage."""
    return MISSING if share is None else f"{100 * share:.{decimals}f} %"


def large(value: float | None) -> str:
    """A large count in thousands, millions or billions: ``134.5 M``."""
    if value is None or not math.isfinite(value):
        return MISSING
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return count(value)


def duration(seconds: float | None) -> str:
    """A time span in the two units that matter: ``3 min 12 s``."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def metric_words(name: str) -> str:
    """The name of a metric as people write it."""
    return {"rouge_l": "ROUGE-L", "nll": "negative log-likelihood"}.get(
        name, name.replace("_", " ")
    )
