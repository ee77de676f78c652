"""The schedules themselves. Progress outside [0, 1] counts as the nearer end."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Annotated

from tutelage.components import Names

Schedule = Callable[[float], float]
"""Progress in [0, 1] to a value."""


def _clip(progress: float) -> float:
    return min(max(progress, 0.0), 1.0)


def _finite(**values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"`{name}` of a schedule must be a finite number, got {value}.")


def constant(*, value: float) -> Schedule:
    """The same value throughout.

    Args:
        value: the value.

    Raises:
        ValueError: ``value`` is not finite.
    """
    _finite(value=value)
    return lambda progress: value


def linear(*, start: float, end: float) -> Schedule:
    r"""A straight line: :math:`s + (e - s)\,x`.

    Args:
        start: value at progress 0.
        end: value at progress 1, reached exactly.

    Raises:
        ValueError: an end is not finite.
    """
    _finite(start=start, end=end)
    # This form gives both ends exactly and a constant when they are equal.
    return lambda progress: start * (1.0 - _clip(progress)) + end * _clip(progress)


def cosine(*, start: float, end: float) -> Schedule:
    r"""Half a cosine wave: :math:`e + (s - e)\,(1 + \cos \pi x) / 2`, flat at both ends.

    Args:
        start: value at progress 0.
        end: value at progress 1.

    Raises:
        ValueError: an end is not finite.
    """
    _finite(start=start, end=end)

    def schedule(progress: float) -> float:
        weight = (1.0 + math.cos(math.pi * _clip(progress))) / 2.0
        return start * weight + end * (1.0 - weight)

    return schedule


def steps(*, values: Sequence[float]) -> Schedule:
    """Equal spans of progress with one value each; the last span includes progress 1.

    Args:
        values: the values in order, for example one for each stage.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    values = tuple(values)
    if not values:
        raise ValueError("A `steps` schedule needs at least one value.")
    _finite(**{f"values[{i}]": value for i, value in enumerate(values)})

    def schedule(progress: float) -> float:
        # Stage e of n has progress (e - 1) / (n - 1); the small shift keeps i/n in span i
        # although i/n * n may round to just below i.
        position = math.floor(_clip(progress) * len(values) + 1e-9)
        return values[min(position, len(values) - 1)]

    return schedule


def join(
    *, schedules: Annotated[Sequence[Schedule], Names("schedule")], boundaries: Sequence[float]
) -> Schedule:
    """Run schedules one after another; each sees its own progress from 0 to 1.

    Args:
        schedules: the schedules in order.
        boundaries: rising points of progress strictly between 0 and 1 where the next one begins,
            one fewer than schedules.

    Raises:
        ValueError: the numbers do not match, or boundaries do not rise inside (0, 1).
    """
    schedules, boundaries = tuple(schedules), tuple(boundaries)
    if len(boundaries) != len(schedules) - 1:
        raise ValueError(
            f"{len(schedules)} schedules need {len(schedules) - 1} boundaries,"
            f" got {len(boundaries)}."
        )
    edges = (0.0, *boundaries, 1.0)
    if any(a >= b for a, b in itertools.pairwise(edges)):
        raise ValueError(f"Boundaries must rise strictly inside (0, 1), got {list(boundaries)}.")

    def schedule(progress: float) -> float:
        progress = _clip(progress)
        i = sum(progress >= boundary for boundary in boundaries)
        return schedules[i]((progress - edges[i]) / (edges[i + 1] - edges[i]))

    return schedule


def whole() -> Schedule:
    """From 0 at the start to 1 at the end, in a line."""
    return linear(start=0.0, end=1.0)


def capped(*, max: float = 0.9) -> Schedule:
    """From 0 at the start to ``max`` at the end, in a line.

    Args:
        max: value at progress 1.
    """
    return linear(start=0.0, end=max)
