"""The table of the tables: every family of components, each imported when it is asked for.

What a recipe may name is looked up here, and ``tutelage ls`` lists it. A new member of a family is
a row in the family's own table; a new family is a row in this one.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.components import Component


@dataclass(frozen=True)
class Family:
    """A table of components.

    Attributes:
        member: what one of them is called in messages.
        module: where the table is.
        name: of the table in it.
    """

    member: str
    module: str
    name: str

    @property
    def table(self) -> Mapping[str, Component]:
        """Its components by name."""
        return getattr(importlib.import_module(self.module), self.name)


FAMILIES: dict[str, Family] = {
    "divergences": Family("divergence", "tutelage.divergences.table", "DIVERGENCES"),
    "targets": Family("target", "tutelage.targets.table", "TARGETS"),
    "token_choices": Family("token choice", "tutelage.targets.tokens", "TOKEN_CHOICES"),
    "curricula": Family("curriculum", "tutelage.curriculum.table", "CURRICULA"),
    "example_weights": Family("example weight", "tutelage.curriculum.weights", "EXAMPLE_WEIGHTS"),
    "teacher_schedules": Family(
        "teacher schedule", "tutelage.curriculum.teaching", "TEACHER_SCHEDULES"
    ),
    "schedules": Family("schedule", "tutelage.schedules.table", "SCHEDULES"),
    "controllers": Family("controller", "tutelage.schedules.controllers", "CONTROLLERS"),
    "averages": Family("average", "tutelage.schedules.averages", "AVERAGES"),
    "text_controllers": Family(
        "text controller", "tutelage.schedules.text_sources", "TEXT_CONTROLLERS"
    ),
    "difficulties": Family("difficulty", "tutelage.difficulty.table", "DIFFICULTIES"),
    "metrics": Family("metric", "tutelage.verifiers.table", "VERIFIERS"),
    "engines": Family("engine", "tutelage.generation.engines.table", "ENGINES"),
    "suites": Family("suite", "tutelage.evaluation.suites.table", "SUITES"),
}


def table_of(member: str) -> Mapping[str, Component]:
    """The table of a family.

    Args:
        member: what one of its members is called.
    """
    (family,) = (family for family in FAMILIES.values() if family.member == member)
    return family.table
