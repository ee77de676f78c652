"""A setting of another tool beside ours."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One setting of another tool.

    Attributes:
        key: how the tool calls it; a dot leads into a section.
        to: ours, as a dotted key; several after commas; empty where there is none.
        how: what becomes of the value, a name in ``values.HOW``.
        note: what differs; or why there is none.
    """

    key: str
    to: str = ""
    how: str = "same"
    note: str = ""


@dataclass(frozen=True)
class Tool:
    """Another tool.

    Attributes:
        name: as `tutelage import` knows it.
        title: for people.
        rows: its settings.
    """

    name: str
    title: str
    rows: tuple[Row, ...]


def without(why: str, *keys: str) -> tuple[Row, ...]:
    """Settings that have no counterpart for one reason."""
    return tuple(Row(key, note=why) for key in keys)
