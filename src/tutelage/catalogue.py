"""What `tutelage ls` lists: every table of components, and the shipped recipes."""

import inspect
import json
import textwrap
from typing import Any

from tutelage import families
from tutelage.components import Component
from tutelage.errors import unknown_name

FAMILIES = ("recipes", "methods", *families.FAMILIES)

START = """start here
  tutelage run quickstart    the whole of it on an embedded task, offline, in a minute or two
  tutelage show quickstart   what it was told to do
Your own models and data take a YAML file that extends one of the methods (docs/recipes.md):
  tutelage validate FILE     what is wrong with it
  tutelage plan FILE         what it would do, and what that costs
  tutelage run FILE          do it"""

Listing = dict[str, list[dict[str, Any]]]

_WIDTH = 100
_OF_A_SECTION = ("min_examples",)
"""What a recipe sets beside the kind, with a default of its own there."""


def catalogue(family: str | None = None) -> Listing:
    """Entries by family, each with name, summary and paper; of components also the options.

    Args:
        family: one of ``FAMILIES``; None for all.

    Raises:
        ConfigError: there is no such family.
    """
    if family is not None and family not in FAMILIES:
        raise unknown_name("family", family, FAMILIES)
    return {name: _entries(name) for name in FAMILIES if family in (None, name)}


def _entries(family: str) -> list[dict[str, Any]]:
    if family in ("recipes", "methods"):
        from tutelage.recipe import list_recipes

        kind = {"recipes": "run", "methods": "method"}[family]
        return [
            {"name": info.name, "summary": info.summary, "paper": info.paper}
            for info in list_recipes()
            if info.kind == kind
        ]
    return [
        {
            "name": name,
            "summary": component.summary,
            "paper": component.paper,
            "options": _options(component),
        }
        for name, component in sorted(families.FAMILIES[family].table.items())
    ]


def _options(component: Component) -> list[dict[str, Any]]:
    """Its options in their order, with a default where there is one."""
    empty = inspect.Parameter.empty
    return [
        {"name": name} | ({} if option.default is empty else {"default": option.default})
        for name, option in component.options.items()
        if name not in _OF_A_SECTION
    ]


def catalogue_text(listing: Listing) -> str:
    """The listing for a terminal: names in one column, what they are in the next.

    Options are shown where one family is, below what has them: all of them would hide the rest.
    """
    lines: list[str] = [START] if len(listing) > 1 else []
    for family, entries in listing.items():
        lines += ["", family] if lines else [family]
        width = max((len(entry["name"]) for entry in entries), default=0)
        for entry in entries:
            paper = f"  [{entry['paper']}]" if entry["paper"] else ""
            lines.append(f"  {entry['name']:<{width}}  {entry['summary']}{paper}")
            if len(listing) == 1 and entry.get("options"):
                said = ", ".join(map(_option_words, entry["options"]))
                indent = " " * (width + 4)
                lines += textwrap.wrap(
                    f"options: {said}",
                    _WIDTH,
                    initial_indent=indent,
                    subsequent_indent=indent,
                    break_on_hyphens=False,
                )
    return "\n".join(lines)


def _option_words(option: dict[str, Any]) -> str:
    """An option with its default, as ``--set`` writes it."""
    if "default" not in option:
        return f"{option['name']} (required)"
    default = option["default"]
    plain = isinstance(default, str) and default
    return f"{option['name']}={default if plain else json.dumps(default)}"
