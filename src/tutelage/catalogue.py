"""What `tutelage ls` lists: every table of components, and the shipped recipes."""

from tutelage import families
from tutelage.errors import unknown_name

FAMILIES = ("recipes", "methods", *families.FAMILIES)

START = """start here
  tutelage run quickstart    the whole of it on an embedded task, offline, in a minute or two
  tutelage show quickstart   what it was told to do
Your own models and data take a YAML file that extends one of the methods (docs/recipes.md):
  tutelage validate FILE     what is wrong with it
  tutelage plan FILE         what it would do, and what that costs
  tutelage run FILE          do it"""

Listing = dict[str, list[dict[str, str]]]


def catalogue(family: str | None = None) -> Listing:
    """Entries by family, each with name, summary and paper.

    Args:
        family: one of ``FAMILIES``; None for all.

    Raises:
        ConfigError: there is no such family.
    """
    if family is not None and family not in FAMILIES:
        raise unknown_name("family", family, FAMILIES)
    return {name: _entries(name) for name in FAMILIES if family in (None, name)}


def _entries(family: str) -> list[dict[str, str]]:
    if family in ("recipes", "methods"):
        from tutelage.recipe import list_recipes

        kind = {"recipes": "run", "methods": "method"}[family]
        return [
            {"name": info.name, "summary": info.summary, "paper": info.paper}
            for info in list_recipes()
            if info.kind == kind
        ]
    return [
        {"name": name, "summary": component.summary, "paper": component.paper}
        for name, component in sorted(families.FAMILIES[family].table.items())
    ]


def catalogue_text(listing: Listing) -> str:
    """The listing for a terminal: names in one column, what they are in the next."""
    lines: list[str] = [START] if len(listing) > 1 else []
    for family, entries in listing.items():
        lines += ["", family] if lines else [family]
        width = max((len(entry["name"]) for entry in entries), default=0)
        for entry in entries:
            paper = f"  [{entry['paper']}]" if entry["paper"] else ""
            lines.append(f"  {entry['name']:<{width}}  {entry['summary']}{paper}")
    return "\n".join(lines)
