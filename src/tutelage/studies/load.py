"""A study file, read: what it says, with its cells as whole recipes."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tutelage.checks.places import check_folder_can_be
from tutelage.errors import ConfigError, unknown_name
from tutelage.recipe.alone import arm_alone
from tutelage.recipe.load import shipped
from tutelage.recipe.nodes import Node, from_value, parse
from tutelage.recipe.problems import problems
from tutelage.recipe.sections import CONTINUOUS
from tutelage.studies.cells import Cell, cells_of, control_of, label_of, levels_of, trials_of
from tutelage.studies.settings import Study
from tutelage.studies.spaces import Space, space_of


@dataclass(frozen=True)
class LoadedStudy:
    """A validated study.

    Attributes:
        study: what its file says.
        base: name or path of the base recipe.
        tree: the file with its origins.
    """

    study: Study
    base: str
    tree: Node = field(repr=False)

    @property
    def folder(self) -> Path:
        """Where its runs and results are."""
        return Path(self.study.output) / "studies" / self.study.name

    @cached_property
    def cells(self) -> list[Cell]:
        """What the table has a row for, without what is tuned."""
        return cells_of(list(self.study.arms), self.study.factors)

    @property
    def control(self) -> tuple[str, dict[str, str]]:
        """The control's arm, and the labels of the levels that it has whatever a cell's are."""
        given = self.study.control
        if isinstance(given, str):
            given = {"arm": given} if given else {}
        fixed = {name: value for name, value in given.items() if name != "arm"}
        labels = {name: label_of(value) for name, value in fixed.items()}
        first = next(iter(self.study.arms))
        if not labels and len(self.study.arms) == 1:
            # One arm alone is held against its own first levels.
            labels = {
                name: levels_of(name, levels)[0].label
                for name, levels in self.study.factors.items()
            }
        return str(given.get("arm") or first), labels

    def control_of(self, cell: Cell) -> Cell:
        """The cell that a cell is held against; itself for a control."""
        arm, fixed = self.control
        wanted = control_of(cell.alone(), arm, fixed)
        return next(one for one in self.cells if one.name == wanted.name)

    def _searched(self, cell: Cell) -> Mapping[str, Any]:
        """The factors that the search tries for a cell."""
        search = self.study.search
        return {} if search is None else search.arms.get(cell.arm, search.factors)

    def space(self, cell: Cell) -> Space:
        """What a sampler chooses from for a cell."""
        return space_of(self._searched(cell))

    def sampled(self, cell: Cell) -> bool:
        """Whether a sampler chooses what is tried: not where all there is can be tried."""
        search = self.study.search
        if search is None or search.sampler == "grid":
            return False
        return self.space(cell).combinations > search.trials

    def trials(self, cell: Cell) -> list[Cell]:
        """All that the search tries for a cell where no sampler chooses."""
        return trials_of(cell, self._searched(cell))

    def samples(self, cell: Cell) -> list[Cell]:
        """What the search tries for a cell, or examples of what it may try; at least one."""
        return self.space(cell).corners(cell) if self.sampled(cell) else self.trials(cell)

    def num_trials(self, cell: Cell) -> int:
        """How many settings the search tries for a cell, itself alone counting as one."""
        search = self.study.search
        if search is not None and self.sampled(cell):
            return search.trials
        return len(self.trials(cell))

    def recipe(
        self, cell: Cell, seeds: Mapping[str, int], over: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The recipe of one run.

        Args:
            cell: what is run.
            seeds: by their job.
            over: further dotted keys and values, under those of the cell.

        Raises:
            ConfigError: it is no whole recipe; the message says for which cell.
        """
        changes = self.tree.value["arms"].value[cell.arm]
        try:
            plain = arm_alone(
                self.base,
                cell.arm,
                changes if isinstance(changes.value, dict) else Node({}, changes.origin),
                common=self.tree.get("set"),
                over={**(over or {}), **cell.over, **self._seeds(seeds)},
                name=self.study.name,
            )
            if "data" in seeds and plain["data"].get("kind", "files") != "files":
                plain["data"]["data_seed"] = seeds["data"]  # the embedded data are made from it
            return plain
        except ConfigError as error:
            raise ConfigError(f"In the study's arm '{cell.trial}': {error}") from error

    def _seeds(self, seeds: Mapping[str, int]) -> dict[str, Any]:
        named = {f"seeds.{name}": seed for name, seed in seeds.items()}
        return {**named, "output": self.study.output}


def load_study(
    source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> LoadedStudy:
    """Read a study and make sure that every run of it has a recipe.

    Args:
        source: path of a YAML file, or the study as a mapping.
        overrides: dotted keys of the study that are changed, as ``{"equal.updates": 220}``.

    Raises:
        ConfigError: there is no such file, or it is no study; the message says where.
    """
    try:
        return _loaded(source, overrides or {})
    except ConfigError as error:
        # What is missing, or contradicts something, has no line.
        if isinstance(source, Mapping) or str(source) in str(error):
            raise
        raise ConfigError(f"{source}: {error}") from error


def _loaded(source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any]) -> LoadedStudy:
    tree, stem = _read(source)
    for key, value in overrides.items():
        tree = tree.put(key, from_value(value, "option"))
    if not tree.get("name"):
        tree = tree.put("name", from_value(stem, "file name"))
    try:
        study = Study.model_validate(tree.plain)
    except ValidationError as error:
        raise ConfigError("\n".join(problems(tree, error, Study))) from error
    check_folder_can_be(Path(study.output))
    loaded = LoadedStudy(study, _base(tree), tree)
    _check(loaded)
    return loaded


def parse_changes(changes: Sequence[str]) -> dict[str, Any]:
    """Dotted keys of a study with their values, from ``a.b=c`` as after ``--set``.

    Raises:
        ConfigError: one has no ``=``, or its value is no YAML.
    """
    found = {}
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path.strip():
            raise ConfigError(
                f"--set {change[:80]}: write a dotted key of the study, '=', and a value, as in"
                " --set equal.updates=220."
            )
        found[path.strip()] = parse(text, f"--set {path[:80]}", lines=False).plain
    return found


def _read(source: str | Path | Mapping[str, Any]) -> tuple[Node, str]:
    if isinstance(source, Mapping):
        return from_value(dict(source), "argument"), "study"
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"There is no study file '{path}' that can be read ({error.strerror or error}). Check"
            " the path; studies of the project are in its folder `studies`."
            if isinstance(error, OSError)
            else f"The study '{path}' is no text in UTF-8: {error}."
        ) from error
    tree = parse(text, str(path), path.parent)
    if not isinstance(tree.value, dict):
        raise ConfigError(
            f"'{path}' holds no study: it must be a YAML mapping with `base` and `arms`."
        )
    return tree, path.stem


def _base(tree: Node) -> str:
    """The base recipe: shipped, or a file beside the study or here."""
    node = tree.get("base")
    assert node is not None
    name = str(node.value)
    if name in shipped():
        return name
    beside = node.folder / name if node.folder is not None else Path(name)
    return str(beside.resolve()) if os.path.isfile(beside) else name


def _check(loaded: LoadedStudy) -> None:
    """Whether everything that the study names is there."""
    study = loaded.study
    if loaded.tree.get("set.extends") is not None:
        raise ConfigError(
            "`set` says `extends`, and it is changes of all arms: a method is what an arm extends."
            " Write it in the arms, or give another base."
        )
    arm, fixed = loaded.control
    if arm not in study.arms:
        raise unknown_name("arm as the study's control", arm, study.arms)
    for name, label in fixed.items():
        known = [level.label for level in levels_of(name, study.factors.get(name, []))]
        if label not in known:
            raise unknown_name(f"level of {name} as the study's control", label, known)
    seeds = dict(study.seeds.all[0])
    for cell in loaded.cells:
        for trial in loaded.samples(cell):
            recipe = loaded.recipe(trial, seeds, {"curriculum.total_steps": study.equal.updates})
    metrics = [*CONTINUOUS, *recipe.get("evaluation", {}).get("metrics", {})]
    if study.search is not None and study.search.measure not in metrics:
        raise unknown_name("measure of the search", study.search.measure, metrics)
