"""Texts with named gaps: ``{name}`` is filled with a field, and nothing else is done.

Two braces stand for one that is meant literally. No attributes, no indices, no formats: a template
comes from a recipe, and what it fills in from a file.
"""

import re
from collections.abc import Mapping

from tutelage.errors import ConfigError

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def placeholders(template: str) -> list[str]:
    """The names between braces, in order.

    Raises:
        ConfigError: a brace without its partner, or something other than a name between two.
    """
    names = []
    for part in _PART.finditer(template):
        if part[0] in ("{{", "}}"):
            continue
        name = part[1]
        if name is None:
            raise ConfigError(
                f"The template {shorten(template)} is malformed: the brace '{part[0]}' at position"
                f" {part.start() + 1} has no partner. Write a field as {{name}}, and a brace that"
                " is meant literally twice."
            )
        if not name.isidentifier():
            raise ConfigError(
                f"The template {shorten(template)} has {{{name[:40]}}}, which is no name of a"
                " field. Fields are text and are filled in as they are: write {name} alone, without"
                " ':', '!', '.' or '[', and a brace that is meant literally twice."
            )
        names.append(name)
    return names


def fill(template: str, fields: Mapping[str, str]) -> str:
    """The template with its fields filled in; every name must be there.

    Examples:
        >>> fill("{{{name}}}: {text}", {"name": "a", "text": "{b}"})
        '{a}: {b}'
    """

    def value(part: re.Match[str]) -> str:
        return part[0][0] if part[1] is None else fields[part[1]]

    return _PART.sub(value, template)


def shorten(text: str) -> str:
    """A text in quotes, as a message shows it."""
    return repr(text) if len(text) <= 60 else repr(text[:57] + "...")
