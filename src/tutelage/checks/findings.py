"""Everything that is found, at once."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tutelage.errors import ConfigError, TutelageError
from tutelage.recipe import LoadedRecipe, Recipe


@dataclass(frozen=True)
class Finding:
    """Something that a run would stumble over.

    Attributes:
        key: dotted key of the recipe that it is about.
        origin: file and line where that was written; empty for a default.
        error: what is wrong and what to do.
    """

    key: str
    origin: str
    error: TutelageError

    @property
    def text(self) -> str:
        """The finding on one line."""
        where = f"{self.origin}: " if self.origin not in ("", "default") else ""
        key = "" if str(self.error).startswith(self.key) else f"{self.key}: "
        return f"{where}{key}{self.error}"


@dataclass
class Findings:
    """What is found while a recipe is looked through.

    Attributes:
        loaded: the recipe.
        found: in the order of finding, each once.
        not_seen: what could not be looked at and why, by the key that names it.
    """

    loaded: LoadedRecipe
    found: list[Finding] = field(default_factory=list)
    not_seen: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, error: TutelageError) -> None:
        """Keep what was found about a key, unless it is known already."""
        finding = Finding(key, self.loaded.origin(key), error)
        if finding.text not in {known.text for known in self.found}:
            self.found.append(finding)

    def unseen(self, key: str, why: str) -> None:
        """Keep that something could not be looked at."""
        self.not_seen[key] = why

    def arms(self) -> Iterator[tuple[str, Recipe]]:
        """The recipe of each arm, with what its keys begin with: nothing, or ``controls.NAME.``."""
        for arm, recipe in self.loaded.arms.items():
            yield "" if recipe is self.loaded.recipe else f"controls.{arm}.", recipe

    def teacher_key(self, name: str) -> str:
        """Where the recipe speaks of a teacher."""
        recipe = self.loaded.recipe
        return f"teachers.{list(recipe.ladder).index(name)}" if recipe.teachers else "teacher"

    @contextlib.contextmanager
    def about(self, key: str) -> Iterator[None]:
        """Keep what the block raises as a finding about a key."""
        try:
            yield
        except TutelageError as error:
            self.add(key, error)


def check_recipe(loaded: LoadedRecipe, run_dir: str | Path | None = None) -> Findings:
    """Look through a recipe; nothing is found when nothing is wrong as far as one can see.

    Args:
        loaded: the recipe.
        run_dir: the run folder, when it is not the recipe's own.
    """
    from tutelage.checks.data import check_data
    from tutelage.checks.models import check_models, see_models
    from tutelage.checks.packages import check_packages
    from tutelage.checks.places import check_places
    from tutelage.checks.suites import check_suites
    from tutelage.checks.updates import check_updates

    findings = Findings(loaded)
    check_places(findings, run_dir)
    check_packages(findings)
    student, teachers = see_models(findings)
    check_models(findings, student, teachers)
    check_data(findings, student)
    check_suites(findings)
    check_updates(findings)
    return findings


def refuse(loaded: LoadedRecipe, run_dir: str | Path | None = None) -> None:
    """Raise what :func:`check_recipe` finds, all of it in one message.

    Raises:
        TutelageError: something is wrong; of its own kind when it is the only thing.
    """
    found = check_recipe(loaded, run_dir).found
    if len(found) == 1:
        raise type(found[0].error)(found[0].text) from found[0].error
    if found:
        raise ConfigError("\n".join(finding.text for finding in found))
