"""How numbers are written for people."""

import math
from collections.abc import Mapping

MISSING = "-"

_LONGEST_NAME = 26
"""Of a model in a picture, where the legend has little room."""


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


def seeds_text(seeds: Mapping[str, int]) -> str:
    """The seeds of a run by their job; one number where all of them are the same."""
    if len(set(seeds.values())) == 1:
        return str(next(iter(seeds.values())))
    return ", ".join(f"{job} {seed}" for job, seed in seeds.items())


def large(value: float | None) -> str:
    """A large count in thousands, millions or billions: ``134.5 M``."""
    if value is None or not math.isfinite(value):
        return MISSING
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return count(value)


def flops(value: float | None) -> str:
    """A number of floating-point operations: ``3.2 T`` for 3.2 billion times a thousand."""
    if value is None or not math.isfinite(value):
        return MISSING
    for size, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{number(value / size, 2 if value < 100 * size else 3)} {unit}"
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
    known = {
        "rouge_l": "ROUGE-L",
        "nll": "negative log-likelihood",
        "forward_kl": "forward KL",
        "reverse_kl": "reverse KL",
        "ece": "calibration error",
        "top1": "likeliest token right",
    }
    return known.get(name, name.replace("_", " "))


def short_name(name: str, longest: int = _LONGEST_NAME) -> str:
    """A name that fits into a picture: its beginning and its end."""
    if len(name) <= longest:
        return name
    kept = longest - 3
    return f"{name[: kept // 2]}...{name[-(kept - kept // 2) :]}"
