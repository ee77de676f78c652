"""Checks of names and options against the tables of components; imported only when needed."""

from collections.abc import Mapping
from typing import Any

from tutelage.components import Component, bind


def _table(family: str) -> Mapping[str, Component]:
    if family == "divergence":
        from tutelage.divergences import DIVERGENCES as table
    elif family == "target":
        from tutelage.targets import TARGETS as table
    elif family == "difficulty":
        from tutelage.difficulty.table import DIFFICULTIES as table
    elif family == "curriculum":
        from tutelage.curriculum import CURRICULA as table
    else:
        assert family == "metric"
        from tutelage.verifiers import VERIFIERS as table
    return table


def check_component(family: str, kind: str, options: Mapping[str, Any]) -> None:
    """Make sure that a component and its options exist.

    Raises:
        ConfigError: they do not; the message suggests the nearest name.
    """
    bind(_table(family), family, kind, options)


def check_schedule(spec: float | Mapping[str, Any]) -> None:
    """Make sure that a schedule can be built.

    Raises:
        ConfigError: its kind, an option or a value does not fit.
    """
    from tutelage.schedules import scheduled

    scheduled(spec)
