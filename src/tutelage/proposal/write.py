"""The recipe as text, with reasons as comments, written only when it is valid."""

import contextlib
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tutelage.checks import check_recipe
from tutelage.errors import ConfigError, RunFolderError, TutelageError
from tutelage.files import atomic_write_text
from tutelage.models.places import find_model, is_gguf
from tutelage.proposal.choose import Setting
from tutelage.recipe import load_recipe

_WIDTH = 100
_PATHS = ("teacher.model", "student.model", "data.train", "data.validation", "data.test")

_AFTER = """\
# Further arms, with the same student, data and number of updates, show what the method buys:
# controls:
#   sft: {extends: sft}           # the labels alone, no teacher
#   cpd: {extends: cpd}           # a curriculum
"""


def recipe_text(settings: Sequence[Setting], folder: Path, head: str = "") -> str:
    """The settings as YAML with comments.

    Args:
        settings: in order; those of one section stand together.
        folder: where the file will be, from which its paths count.
        head: a first comment.
    """
    lines = [f"# {line}" for line in textwrap.wrap(head, _WIDTH - 2)]
    sections: dict[str, list[Setting]] = {}
    for setting in settings:
        sections.setdefault(setting.key.partition(".")[0], []).append(setting)
    for section, inside in sections.items():
        if "." not in inside[0].key:
            lines += ["", *_comment(inside[0].reason, 0), _line(inside[0], section, folder, 0)]
            continue
        lines += ["", f"{section}:"]
        groups: list[str] = []
        for setting in inside:
            *path, name = setting.key.split(".")[1:]
            if path and path[0] not in groups:
                groups.append(path[0])
                lines.append(f"  {path[0]}:")
            depth = 2 + 2 * len(path)
            lines += [
                *_comment(setting.reason, depth),
                _line(setting, name, folder, depth),
            ]
    return "\n".join(lines).lstrip("\n") + "\n\n" + _AFTER


def _comment(reason: str, depth: int) -> list[str]:
    return [f"{' ' * depth}# {line}" for line in textwrap.wrap(reason, _WIDTH - 2 - depth)]


def _line(setting: Setting, name: str, folder: Path, depth: int) -> str:
    value = setting.value
    if setting.key in _PATHS:
        value = _placed(folder, value)
    return f"{' ' * depth}{name}: {_scalar(value)}"


def _placed(folder: Path, value: Any) -> Any:
    """A path, or a list of them or of mappings with one, as found from the recipe's folder."""
    if isinstance(value, list):
        return [_placed(folder, one) for one in value]
    if isinstance(value, dict):
        return {**value, "path": _from(folder, value["path"])}
    return _from(folder, value)


def _scalar(value: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(value, float):
        return f"{value:g}"
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def _from(folder: Path, name: str) -> str:
    """A path as it is found from the recipe's folder; other names as they are."""
    if not os.path.exists(os.path.expanduser(name)) or find_model(name) != name:
        return name
    place = Path(os.path.abspath(os.path.expanduser(name)))
    try:
        inside = place.relative_to(os.path.abspath(folder))
    except ValueError:
        return str(place)
    # A bare name could be one of the hub.
    return f"./{inside.as_posix()}" if not is_gguf(name) else inside.as_posix()


def write_recipe(path: Path, text: str, *, replace: bool = False) -> list[str]:
    """Write a recipe after it was held valid; nothing is left of one that is not.

    Args:
        path: the file.
        text: the recipe.
        replace: put it in the place of another file.

    Returns:
        What could not be looked at.

    Raises:
        RunFolderError: the file is there, or its folder cannot be written.
        ConfigError: the recipe would not be valid.
    """
    if path.exists() and not replace:
        raise RunFolderError(
            f"'{path}' is there already and was left as it is. Choose another name, or replace it"
            " with --force."
        )
    if path.is_dir():
        raise RunFolderError(f"'{path}' is a folder. Name a file, such as '{path}/mine.yaml'.")
    new = [folder for folder in path.parents if not folder.exists()]
    trial = path.with_name(f".{path.stem}-{os.getpid()}.yaml")
    try:
        atomic_write_text(trial, text)
        findings = check_recipe(load_recipe(str(trial)))
        if findings.found:
            problems = "\n".join(found.text for found in findings.found)
            raise ConfigError(f"No recipe was written: a run would stop at once.\n{problems}")
        os.replace(trial, path)
    except OSError as error:
        if isinstance(error, TutelageError):
            raise
        raise RunFolderError(
            f"'{path}' cannot be written: {error.strerror or error}. Choose another place."
        ) from error
    finally:
        trial.unlink(missing_ok=True)
        for folder in new:
            with contextlib.suppress(OSError):  # the recipe is in it
                folder.rmdir()
    return [f"{key}: {why}" for key, why in findings.not_seen.items()]
