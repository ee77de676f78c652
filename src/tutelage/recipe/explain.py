"""A resolved recipe as YAML, with where each value came from."""

import functools
import json
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
