"""What pydantic found wrong, in plain words, with the file and line where it was written."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from tutelage.errors import did_you_mean, unknown_name
from tutelage.recipe.base import models_in
from tutelage.recipe.nodes import Node
from tutelage.recipe.schema import Recipe
from tutelage.recipe.words import SettingError, expected, shown


@dataclass(frozen=True)
class _Place:
    """Where an error belongs.

    Attributes:
        path: dotted; without the names that pydantic gives to members of a union.
        origin: ``"file.yaml:12: "``, or empty when the value is a default.
        section: the models that the last key of the path may belong to.
        meaning: the description of the field, if it is one.
    """

    path: str
    origin: str
    section: Sequence[type[BaseModel]]
    meaning: str


def problems(tree: Node, error: ValidationError, root: type[BaseModel] = Recipe) -> list[str]:
    """One message for each mistake in a recipe.

    Args:
        tree: what was validated, with origins.
        error: what pydantic says about it.
        root: the model that it was validated by.

    Returns:
        Messages that say where, what is wrong, and what is known or meant there.
    """
    messages: list[str] = []
    wanted: dict[str, tuple[_Place, list[str], Any]] = {}
    for details in error.errors():
        location: tuple[Any, ...] = tuple(details["loc"])
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, SettingError) and cause.path:
            location += tuple(cause.path.split("."))
        place = _find_place(tree, location, root)
        must = expected(details)
        if must is None:
            messages.append(place.origin + _other(place, details, root))
        else:
            # Every member of a union complains by itself: together they say what would fit.
            wanted.setdefault(place.path, (place, [], details["input"]))[1].append(must)
    for place, musts, given in wanted.values():
        must = " or ".join(dict.fromkeys(musts))
        hint = did_you_mean(given, re.findall(r"'([^']*)'", must)) if isinstance(given, str) else ""
        if not hint and isinstance(given, str) and must == "a list" and given.isidentifier():
            hint = f" Write [{given}]."
        meaning = f" It means: {place.meaning}" if place.meaning else ""
        messages.append(
            f"{place.origin}{place.path}: must be {must}, not {shown(given)}.{hint}{meaning}"
        )
    return list(dict.fromkeys(messages))


def _other(place: _Place, details: Any, root: type[BaseModel]) -> str:
    if details["type"] == "extra_forbidden":
        return _unknown_key(place, root)
    if details["type"] == "union_tag_invalid":
        known = [tag.strip("' ") for tag in details["ctx"]["expected_tags"].split(",")]
        return unknown_name(f"{place.path} kind", details["ctx"]["tag"], known).args[0]
    if details["type"] == "missing":
        return f"{place.path}: is missing. It means: {place.meaning}"
    label = f"{place.path}: " if place.path else ""
    return label + details["msg"].removeprefix("Value error, ")


def _unknown_key(place: _Place, root: type[BaseModel]) -> str:
    key = place.path.rpartition(".")[2]
    known = sorted({name for model in place.section for name in model.model_fields})
    homes = list(_homes(key, root, ""))
    hint = f" It belongs under `{homes[0]}`." if homes else did_you_mean(key, known)
    return f"unknown key '{place.path}'.{hint} Known here: {', '.join(known)}."


def _homes(key: str, model: type[BaseModel], path: str) -> Iterator[str]:
    """The sections that do have a key of this name."""
    for name, field in model.model_fields.items():
        where = f"{path}.{name}" if path else name
        for child in models_in(field.annotation):
            if key in child.model_fields and key != "kind":
                yield where
            yield from _homes(key, child, where)


def _find_place(tree: Node, location: Sequence[Any], root: type[BaseModel]) -> _Place:
    """Follow a location through the recipe and through the schema at once."""
    path: list[str] = []
    node: Node | None = tree
    nearest, section, models, meaning = tree, [root], [root], ""
    for part in location:
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        below = _child(node, part)
        tagged = [model for model in models if _kind(model) == part] if len(models) > 1 else []
        if tagged or (not fields and below is None and not isinstance(part, int)):
            models = tagged or models  # the name of a union's member, not a key
            continue
        path.append(str(part))
        if isinstance(part, int):  # one of a list is of the models that its field holds
            section, node, nearest = models, below, below or nearest
            continue
        section, meaning = models, (fields[0].description or "") if fields else ""
        models = [model for field in fields for model in models_in(field.annotation)]
        node, nearest = below, below or nearest
    origin = "" if nearest is tree else f"{nearest.origin}: "
    return _Place(".".join(path), origin, section, meaning)


def _child(node: Node | None, key: Any) -> Node | None:
    if node is None:
        return None
    if isinstance(node.value, dict):
        return node.value.get(key)
    if isinstance(node.value, list) and str(key).isdigit():
        return node.value[int(key)]
    return None


def _kind(model: type[BaseModel]) -> str:
    field = model.model_fields.get("kind")
    choices = get_args(field.annotation) if field is not None else ()
    return choices[0] if choices else ""
