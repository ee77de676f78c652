"""What a sampler may choose from: ranges of numbers, and levels as a grid has them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.errors import ConfigError
from tutelage.studies.cells import WHOLE, Cell, Level, is_range, label_of, levels_of

_DIGITS = 3
"""Significant digits of a chosen number: what a label shows is what is run."""


@dataclass(frozen=True)
class Range:
    """Numbers from one to another.

    Attributes:
        low: the least.
        high: the largest.
        log: whether factors between numbers count, and not differences.
        step: the distance of neighbours; None for any number (1 between whole ones).
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole ones."""
        return all(isinstance(one, int) for one in (self.low, self.high, self.step or 1))

    def nearest(self, value: float) -> float:
        """A number of the range that people can read, for one that was chosen."""
        if self.whole or self.step is not None:
            return value if self.whole else float(f"{value:.12g}")
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)


Choices = Range | tuple[Level, ...]


@dataclass(frozen=True)
class Space:
    """What may be chosen for each factor of a search.

    Attributes:
        choices: by factor.
    """

    choices: Mapping[str, Choices]

    @property
    def combinations(self) -> float:
        """How many there are; infinite with a range."""
        return math.prod(
            math.inf if isinstance(c, Range) else len(c) for c in self.choices.values()
        )

    @property
    def plain(self) -> dict[str, Any]:
        """By factor the bounds of its range or the labels of its levels."""
        return {
            factor: vars(one) if isinstance(one, Range) else [level.label for level in one]
            for factor, one in self.choices.items()
        }

    def trial(self, cell: Cell, settings: Mapping[str, Any]) -> Cell:
        """A cell with chosen settings: by factor a number of its range or the label of a level."""
        levels = [_level(name, one, settings[name]) for name, one in self.choices.items()]
        return Cell(cell.arm, cell.levels, tuple(levels))

    def corners(self, cell: Cell) -> list[Cell]:
        """A few trials in which each end of a range and each level is once at least."""
        ends = {
            name: [one.low, one.high] if isinstance(one, Range) else [level.label for level in one]
            for name, one in self.choices.items()
        }
        most = max((len(one) for one in ends.values()), default=1)
        return [
            self.trial(cell, {name: one[place % len(one)] for name, one in ends.items()})
            for place in range(most)
        ]


def space_of(factors: Mapping[str, Any]) -> Space:
    """The space of a search's factors as a study file writes them.

    Raises:
        ConfigError: a factor is neither a range nor a list of levels.
    """
    return Space({name: _choices(name, given) for name, given in factors.items()})


def _choices(factor: str, given: Any) -> Choices:
    if not is_range(given):
        return levels_of(factor, given)
    found = Range(**given)
    problem = _problem(factor, found)
    if problem:
        raise ConfigError(f"The range of '{factor}' {problem}, as in {{low: 1e-4, high: 1e-2}}.")
    return found


def _problem(factor: str, found: Range) -> str:
    numbers = (found.low, found.high, found.step or 1)
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers):
        return "must be of numbers"
    if not all(math.isfinite(one) for one in numbers) or found.low >= found.high:
        return f"goes from {found.low} to {found.high}: `low` must be below `high`"
    if not isinstance(found.log, bool) or (found.log and (found.low <= 0 or found.step)):
        return "may be `log: true` only above 0, and without `step`"
    if found.step is not None and found.step <= 0:
        return "needs a `step` above 0"
    if WHOLE not in factor:
        return "is of a factor that is no dotted key of a recipe, whose levels are changes"
    return ""


def _level(factor: str, choices: Choices, chosen: Any) -> Level:
    if isinstance(choices, Range):
        return Level(factor, label_of(chosen), ((factor, chosen),))
    return next(level for level in choices if level.label == chosen)
