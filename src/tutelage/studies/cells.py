"""The cells of a study: each arm with each combination of its factors, as whole recipes."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.errors import ConfigError

WHOLE = "."
"""Separates the keys of a recipe; a factor without one has levels that are whole changes."""


@dataclass(frozen=True)
class Level:
    """One value of a factor.

    Attributes:
        factor: a dotted key, or any word when the level is several changes.
        label: how people tell it from the factor's other levels.
        changes: dotted keys and values.
    """

    factor: str
    label: str
    changes: tuple[tuple[str, Any], ...]

    def __hash__(self) -> int:
        return hash((self.factor, self.label))


@dataclass(frozen=True)
class Cell:
    """An arm with one level of each factor.

    Attributes:
        arm: its name.
        levels: one of each factor of the study.
        tuned: one of each factor of its search; empty when nothing is tuned, or not yet.
    """

    arm: str
    levels: tuple[Level, ...] = ()
    tuned: tuple[Level, ...] = ()

    @property
    def name(self) -> str:
        """What the table calls it."""
        return ", ".join([self.arm, *(_words(level) for level in self.levels)])

    @property
    def trial(self) -> str:
        """Its name with the settings that were chosen for it."""
        return ", ".join([self.name, *(_words(level) for level in self.tuned)])

    @property
    def over(self) -> dict[str, Any]:
        """Dotted keys and values that make it of its arm."""
        return {key: value for level in (*self.levels, *self.tuned) for key, value in level.changes}

    def alone(self) -> "Cell":
        """The cell without what is tuned."""
        return Cell(self.arm, self.levels)


def _words(level: Level) -> str:
    return f"{level.factor.rpartition('.')[2]} {level.label}"


def is_range(given: Any) -> bool:
    """Whether a factor is given as a range, ``{low: 1e-4, high: 1e-2, log: true}``."""
    names = {*given} if isinstance(given, Mapping) else set()
    return {"low", "high"} <= names <= {"low", "high", "log", "step"}


def levels_of(factor: str, given: Any) -> tuple[Level, ...]:
    """The levels of a factor as a study file writes them.

    Args:
        factor: a dotted key; or a word without a dot, whose levels are changes of a recipe.
        given: a list of values, or a mapping from labels to values.

    Raises:
        ConfigError: there are none, two are the same, or they are a range.
    """
    if is_range(given):
        raise ConfigError(
            f"The factor '{factor}' is a range, and only a search with `sampler: optuna` chooses"
            " from ranges. Write a list of values; or, in `search`, sampler: optuna. (Levels whose"
            " labels are `low` and `high` need other names.)"
        )
    if isinstance(given, Mapping):
        named = [(str(label), value) for label, value in given.items()]
    elif isinstance(given, Sequence) and not isinstance(given, str):
        named = [(label_of(value), value) for value in given]
    else:
        named = []
    labels = [label for label, _ in named]
    if not named or len(set(labels)) < len(labels):
        raise ConfigError(
            f"The factor '{factor}' needs a list of different values, or a mapping from labels to"
            f" values; it has {labels or given!r}."
        )
    return tuple(Level(factor, label, _changes(factor, value)) for label, value in named)


def _changes(factor: str, value: Any) -> tuple[tuple[str, Any], ...]:
    if WHOLE in factor:
        return ((factor, value),)
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"The factor '{factor}' is no dotted key of a recipe, so each of its levels must be a"
            f" mapping of changes, as in {factor}: {{name: {{loss: {{ce_weight: 0}}}}}}."
        )
    if "extends" in value:
        raise ConfigError(
            f"A level of the factor '{factor}' says `extends: {value['extends']}`, and levels are"
            " changes of the arms: a method is what an arm extends. Write an arm for each method,"
            " and a factor for what changes in all of them."
        )
    return tuple(_leaves(value, ""))


def _leaves(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys; a mapping that says a ``kind`` stays whole, as what it is laid over needs it."""
    for key, child in value.items():
        path = f"{prefix}{key}"
        if isinstance(child, Mapping) and child and "kind" not in child:
            yield from _leaves(child, f"{path}.")
        else:
            yield path, child


def label_of(value: Any) -> str:
    """What a value of a factor is called where it has no label of its own."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping) and isinstance(value.get("kind"), str):
        options = ", ".join(f"{k} {label_of(v)}" for k, v in value.items() if k != "kind")
        return f"{value['kind']} ({options})" if options else str(value["kind"])
    if isinstance(value, str):
        return value
    return json.dumps(value)


def combinations(factors: Mapping[str, Any]) -> list[tuple[Level, ...]]:
    """Every combination of one level of each factor, the last factor changing fastest."""
    return list(itertools.product(*(levels_of(name, given) for name, given in factors.items())))


def cells_of(arms: Sequence[str], factors: Mapping[str, Any]) -> list[Cell]:
    """Every arm with every combination of the factors."""
    return [Cell(arm, levels) for arm in arms for levels in combinations(factors)]


def trials_of(cell: Cell, factors: Mapping[str, Any]) -> list[Cell]:
    """A cell with every combination of what is tuned; itself alone where nothing is."""
    return [Cell(cell.arm, cell.levels, tuned) for tuned in combinations(factors)]


def control_of(cell: Cell, arm: str, fixed: Mapping[str, str]) -> Cell:
    """What a cell is held against: the control's arm at the cell's own levels but the fixed ones.

    Args:
        cell: the cell.
        arm: of the control.
        fixed: labels of the levels that the control has, whatever the cell's are.
    """
    return Cell(arm, tuple(_fixed(level, fixed) for level in cell.levels))


def _fixed(level: Level, fixed: Mapping[str, str]) -> Level:
    label = fixed.get(level.factor)
    return level if label is None or label == level.label else Level(level.factor, label, ())
