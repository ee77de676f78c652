"""A resolved recipe as YAML, with where each value came from."""

import functools
import json
from collections.abc import Iterator
from typing import Any

import yaml

from tutelage.recipe.load import LoadedRecipe
from tutelage.recipe.nodes import parse

_INDENT = "  "


def to_yaml(loaded: LoadedRecipe) -> str:
    """The whole recipe, defaults included; each line ends with the origin of its value.

    The text is a recipe itself: loading it gives the same recipe again.
    """
    values = loaded.recipe.model_dump(mode="json")
    lines = list(_lines(values, "", "", loaded))
    width = min(max((len(text) for text, origin in lines if origin), default=0), 60)
    rows = [f"{text:<{width}}  # {origin}" if origin else text for text, origin in lines]
    return "\n".join(rows) + "\n"


_OF_THE_ARM = {"name", "arm", "title", "description", "paper", "differs_from_paper", "controls"}
"""What is said of an arm, and makes nothing else of it."""

_ABSENT = object()
"""In place of an option that another component does not have."""


def controls_text(loaded: LoadedRecipe) -> str:
    """What each control is beside the main arm once all that it extends is resolved.

    Every line is a comment, so that it can stand behind the recipe; empty without controls.
    """
    main, *controls = loaded.arms.items()
    if not controls:
        return ""
    values = main[1].model_dump(mode="json")
    lines = [
        f"# What each control changes, resolved; in brackets what {main[0]} has, whose number of"
        " updates all make:"
    ]
    for name, arm in controls:
        changes = list(_changes(values, arm.model_dump(mode="json"), ""))
        lines.append(f"# {name}:" if changes else f"# {name}: nothing")
        lines += [f"#   {text}" for text in changes]
    return "\n".join(lines) + "\n"


def _changes(main: Any, other: Any, path: str) -> Iterator[str]:
    """Keys at which two recipes differ, with the value of the second and that of the first."""
    if isinstance(main, dict) and isinstance(other, dict):
        for key in dict.fromkeys((*main, *other)):
            if path or key not in _OF_THE_ARM:
                where = f"{path}.{key}" if path else key
                yield from _changes(main.get(key, _ABSENT), other.get(key, _ABSENT), where)
    elif main != other:
        said, before = ("-" if one is _ABSENT else _scalar(one) for one in (other, main))
        yield f"{path}: {said}  ({before})"


def _lines(
    value: dict[str, Any], path: str, indent: str, loaded: LoadedRecipe
) -> list[tuple[str, str]]:
    """Pairs of a line and the origin of the value on it; empty for a line that opens a section."""
    rows: list[tuple[str, str]] = []
    for key, child in value.items():
        where = f"{path}.{key}" if path else key
        if isinstance(child, dict) and child:
            rows.append((f"{indent}{_scalar(key)}:", ""))
            rows += _lines(child, where, indent + _INDENT, loaded)
        else:
            rows.append((f"{indent}{_scalar(key)}: {_scalar(child)}", loaded.origin(where)))
    return rows


def _scalar(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.1f}"
    return json.dumps(value, ensure_ascii=False)


@functools.lru_cache(maxsize=1024)  # keys are always the same, and PyYAML is slow
def _text(value: str) -> str:
    """Text in quotes only where it would be read as something else without them."""
    plain = yaml.safe_dump(value, width=10**9, allow_unicode=True).splitlines()
    text = plain[0]
    ambiguous = len(plain) > 2 or "#" in text or text.startswith(("'", '"'))
    # `1e-4` is text to PyYAML and a number to us: quotes make it text to everybody.
    if ambiguous or parse(text, "").value != value:
        return yaml.safe_dump(value, default_style='"', width=10**9, allow_unicode=True).strip()
    return text
