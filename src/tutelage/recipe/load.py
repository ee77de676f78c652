"""Load a recipe: its file, the recipes that it extends, and what ``--set`` changes.

Paths in a recipe are relative to its file where that exists, and to the working directory
otherwise.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tutelage.errors import ConfigError, did_you_mean
from tutelage.placeholders import shorten
from tutelage.proofs import fingerprint
from tutelage.recipe.effects import effective
from tutelage.recipe.files import is_there, resolve_paths
from tutelage.recipe.merge import merge, undone
from tutelage.recipe.nodes import Node, checked, from_value, parse
from tutelage.recipe.problems import problems
from tutelage.recipe.schema import LONGEST_NAME, Recipe
from tutelage.recipe.words import shown

SHARED = (
    "student",
    "teacher",
    "teachers",
    "data",
    "selection",
    "evaluation",
    "engine",
    "controls",
    "name",
    "arm",
    "output",
    "seeds.data",
    "seeds.teacher",
)
"""What the arms of a run have in common; a method that is a control brings none of it."""

_DEEPEST_KEY = 10
"""More dots than any key of a recipe has."""


@dataclass(frozen=True)
class LoadedRecipe:
    """A validated recipe and where its values came from.

    Attributes:
        recipe: the recipe of the main arm.
        origins: dotted path of each value that was given to where: a file and line, or ``--set``.
        arms: name to recipe, the main arm first, then the controls.
    """

    recipe: Recipe
    origins: Mapping[str, str]
    arms: Mapping[str, Recipe]

    def origin(self, path: str) -> str:
        """Where a value came from; a part of a value that was given whole came from there too."""
        while path:
            if path in self.origins:
                return self.origins[path]
            path = path.rpartition(".")[0]
        return "default"

    @property
    def compared_teachers(self) -> tuple[str, ...]:
        """Teachers whose distributions some arm learns from or is measured by.

        They need the student's tokens.
        """
        names = [n for arm in self.arms.values() for n in _compared(arm)]
        return tuple(dict.fromkeys(names))

    def is_only_asked(self, name: str) -> bool:
        """Whether a teacher's weights are not needed here.

        So it is where the engine runs it elsewhere, and nothing compares it, cuts it or trains it.
        """
        recipe = self.recipe
        runs = recipe.engine.options.get("runs", "teacher")
        student, strongest = recipe.student, tuple(recipe.ladder)[-1:] == (name,)
        taken = student is not None and (
            student.init_from == "TEACHER"
            or (student.finetune is not None and student.finetune.objective == "kl")
        )
        return (
            recipe.engine.kind == "server"
            and runs == name
            and not recipe.ladder[name].is_made
            and name not in self.compared_teachers
            and not (strongest and (taken or recipe.evaluation.agreement))
        )

    @cached_property
    def fingerprint(self) -> str:
        """64 digits that differ when any result may differ; see ``effects.NO_RESULT``."""
        values = effective(self.recipe)
        values["controls"] = {name: effective(arm) for name, arm in list(self.arms.items())[1:]}
        return fingerprint(values)


def _compared(arm: Recipe) -> tuple[str, ...]:
    learned = () if arm.loss.is_cross_entropy_alone else arm.teachers_used
    return (*learned, *(tuple(arm.ladder)[-1:] if arm.measures_teacher else ()))


@dataclass(frozen=True)
class RecipeInfo:
    """A shipped recipe in a list.

    Attributes:
        name: what to call it.
        summary: one line.
        paper: where it comes from.
        kind: ``"run"`` when it is whole, ``"method"`` when it needs models and data.
    """

    name: str
    summary: str
    paper: str
    kind: str


def shipped() -> dict[str, Path]:
    """The recipes of the package by name."""
    folder = Path(str(resources.files("tutelage") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def list_recipes() -> list[RecipeInfo]:
    """What is shipped; reads the YAML alone."""
    found = []
    for name in shipped():
        tree, _ = read_layers(name)
        values = tree.plain
        whole = bool(values.get("student"))
        summary = str(values.get("title", ""))
        found.append(
            RecipeInfo(name, summary, str(values.get("paper", "")), "run" if whole else "method")
        )
    return found


def load_recipe(
    source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, partial: bool = False
) -> LoadedRecipe:
    """Read, merge, validate.

    Args:
        source: name of a shipped recipe, path of a YAML file, or the recipe as a mapping.
        overrides: ``a.b=c``; the value is read as YAML.
        partial: accept a bare method that lacks models or data.

    Raises:
        ConfigError: the recipe does not exist, is no YAML, holds an unknown key, a bad value, or
            lacks something; the message says where and what to do.
    """
    tree, method = read_layers(source)
    tree = _with_overrides(tree, overrides)
    tree = _anchor_controls(resolve_paths(tree))
    if not tree.get("name"):
        stem = "recipe" if isinstance(source, Mapping) else Path(str(source)).stem
        tree = tree.put("name", Node(_as_name(stem), "file name"))
    if not (arm := tree.get("arm")) or not arm.value:
        tree = tree.put("arm", from_value(method or tree.plain["name"], "method"))
    recipe = _validate(tree)
    if not partial and (lacks := recipe.missing()):
        raise _incomplete(recipe.name, lacks)
    arms = {recipe.arm: recipe}
    wrong = []
    for control in recipe.controls:
        try:
            arms[control] = _arm(tree, control, main=recipe.arm, partial=partial)
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("\n".join(wrong))
    as_seed = {f"seeds.{job}": f"as seed: {seed}" for job, seed in recipe.all_seeds.items()}
    origins = as_seed | {path: node.origin for path, node in tree.leaves()}
    return LoadedRecipe(recipe, origins, arms)


def read_layers(source: str | Path | Mapping[str, Any]) -> tuple[Node, str]:
    """The merged tree of a recipe and all that it extends, and the nearest bare method in it."""
    if isinstance(source, Mapping):
        name, top = "argument", from_value(dict(source), "argument")
    else:
        name = str(source)
        top = _read_file(_find(name))
    layers, seen, method = [top], [name], ""
    if name in shipped() and not gives(top, "student"):
        method = name  # `run rkl --set ...`: the method is rkl, not the kld that it extends
    while (extends := layers[-1].get("extends")) is not None:
        path = _find(_text(extends), extends)
        if str(path) in seen:
            raise ConfigError(
                f"{extends.origin}: recipes extend each other in a circle:"
                f" {' -> '.join([*seen, str(path)])}. Remove one `extends`."
            )
        seen.append(str(path))
        layers.append(_read_file(path))
        if not method and not gives(layers[-1], "student"):
            method = _as_name(path.stem)
    merged = layers[-1]
    for layer in reversed(layers[:-1]):
        merged = merge(merged, layer)
    return merged.without("extends"), method


def _read_file(path: Path) -> Node:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The recipe '{path}' cannot be read: {error}.") from error
    package = path == shipped().get(path.stem)
    tree = parse(text, f"recipes/{path.name}" if package else str(path), path.parent)
    if not isinstance(tree.value, dict):
        raise ConfigError(
            f"'{path}' holds no recipe: the file must be a YAML mapping such as `extends: cpd`."
        )
    return tree


def _find(name: str, asked_by: Node | None = None) -> Path:
    """A file, beside the recipe that asks for it or from here, or else a shipped recipe."""
    places = [Path(name)]
    if asked_by is not None and asked_by.folder is not None:
        places.insert(0, asked_by.folder / name)
    known = shipped()
    looks_like_a_path = name.endswith((".yaml", ".yml")) or "/" in name
    if not looks_like_a_path and name in known:
        return known[name]
    for place in places:
        if is_there(place) and place.is_file():
            return place
    where = f"{asked_by.origin}: there" if asked_by is not None else "There"
    if looks_like_a_path:
        raise ConfigError(
            f"{where} is no recipe file {shorten(name)}. Check the path; shipped recipes are called"
            f" by name: {', '.join(known)}."
        )
    raise ConfigError(
        f"{where} is no recipe {shorten(name)}.{did_you_mean(name, known)} Shipped:"
        f" {', '.join(known)}. A file needs its ending: {name[:60]}.yaml."
    )


def _with_overrides(tree: Node, overrides: Sequence[str]) -> Node:
    """A tree with what ``--set`` changes, one after another.

    Raises:
        ConfigError: one is no key with a value, or undoes what another asks for.
    """
    changes: list[Node] = []
    for override in overrides:
        change = _change(override)
        if lost := undone(changes, change):
            raise ConfigError(
                f"--set {lost[0]} and --set {lost[1]} answer the same question, and the second"
                " would undo the first. Give one of them."
            )
        changes.append(change)
        # A section that another kind replaces in a file is replaced in the same way here.
        tree = merge(tree, change)
    return tree


def _change(override: str) -> Node:
    """What one ``--set`` asks for, as a tree."""
    path, equals, text = override.partition("=")
    path = path.strip()
    if not equals or not path or path.count(".") > _DEEPEST_KEY:
        raise ConfigError(
            f"--set {override[:80]}: write a dotted key, '=', and a value, as in"
            " --set training.learning_rate=1e-4."
        )
    checked(path, "--set")
    value = parse(text, f"--set {path[:80]}", lines=False)
    return Node({}, "--set").put(path, _relabel(value))


def _relabel(node: Node) -> Node:
    """The same values, all from ``--set``; paths are relative to the working directory."""
    return from_value(node.plain, "--set")


def _anchor_controls(tree: Node) -> Node:
    """Make the paths of controls absolute, so that the saved recipe can be loaded anywhere."""
    controls = tree.get("controls")
    if controls is None or not isinstance(controls.value, dict):
        return tree
    anchored = dict(controls.value)
    for name, control in controls.value.items():
        extends = control.get("extends")
        if extends is not None:
            path = _find(_text(extends), extends)
            if path != shipped().get(str(extends.value)):
                place = Node(str(path.resolve()), extends.origin, extends.folder)
                control = control.put("extends", place)
        if isinstance(control.value, dict):
            anchored[name] = resolve_paths(control)
    return tree.put("controls", Node(anchored, controls.origin, controls.folder))


def _arm(tree: Node, name: str, *, main: str, partial: bool) -> Recipe:
    """The recipe of a control that can be an arm beside the main one."""
    origin = tree.value["controls"].value[name].origin
    if name == main:
        raise ConfigError(
            f"{origin}: the control '{name}' has the name of the main arm, and results could not be"
            " told apart. Rename it, or set `arm`."
        )
    control = _control(tree, name)
    if not partial and "teacher.model" in control.missing():
        raise ConfigError(
            f"{origin}: the control '{name}' distils, and there is no teacher. Add --set"
            " teacher.model=FOLDER_OR_HUB_NAME, or set its loss.ce_weight to 1."
        )
    return control


def _control(tree: Node, name: str) -> Recipe:
    """The recipe of a control: the main one with its changes."""
    node = tree.value["controls"].value[name]
    for section in SHARED:
        if (changed := node.get(section)) is not None:
            raise ConfigError(
                f"{changed.origin}: the control '{name}' may not change `{section}`:"
                " arms share student, teachers, data, selection and evaluation, so that they can be"
                " compared. Write a second recipe for that."
            )
    base = tree.without("controls")
    extends = node.get("extends")
    if extends is not None:
        method, _ = read_layers(_text(extends))
        if gives(method, "student") or gives(method, "data"):
            raise ConfigError(
                f"{extends.origin}: the control '{name}' extends '{extends.value}', which brings a"
                " student or data of its own; arms share these. Extend a method such as `kld`."
            )
        base = merge(base, method.without("title", "description", "seeds", *SHARED))
    return _validate(resolve_paths(merge(base, node.without("extends"))), f"controls.{name}: ")


def gives(tree: Node, section: str) -> bool:
    """Whether a tree says anything of a section."""
    node = tree.get(section)
    return node is not None and node.value is not None


def _text(extends: Node) -> str:
    if not isinstance(extends.value, str):
        raise ConfigError(
            f"{extends.origin}: `extends` takes one name of a shipped recipe or one path of a file,"
            f" not {shown(extends.plain)}."
        )
    return extends.value


def _as_name(stem: str) -> str:
    """A file's stem as the name of a run, without what cannot be part of a folder's name."""
    name = re.sub(r"[^\w .+-]", "-", stem).lstrip(" .+-_").encode("utf-8")[:LONGEST_NAME]
    return name.decode("utf-8", "ignore") or "recipe"


def _validate(tree: Node, prefix: str = "") -> Recipe:
    try:
        return Recipe.model_validate(tree.plain)
    except ValidationError as error:
        raise ConfigError("\n".join(prefix + text for text in problems(tree, error))) from error


_EXAMPLES = {
    "student.model": "--set student.model=FOLDER_OR_HUB_NAME",
    "teacher.model": "--set teacher.model=FOLDER_OR_HUB_NAME",
    "data.train": "--set data.train=FILE.jsonl",
    "data.validation": "--set data.validation_share=0.1 (or null for what looks at it:"
    " selection.metric, on_policy.adaptive)",
}


def _incomplete(name: str, lacks: Sequence[str]) -> ConfigError:
    examples = " ".join(_EXAMPLES[key] for key in lacks)
    return ConfigError(
        f"The recipe '{name}' lacks {', '.join(lacks)}. Write a recipe that says `extends: {name}`"
        f" and gives them, or add: {examples}"
    )
