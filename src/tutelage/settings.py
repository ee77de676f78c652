"""Settings declared once, by the folder that uses them.

A group of settings is a frozen dataclass whose fields are made by ``setting``: default, meaning and
bounds. The sections of a recipe, their reference page and the check of what is written there are
made from these fields (``recipe.base``); ``check_settings`` is the check of what is made in Python.
"""

import dataclasses
import operator
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tutelage.errors import ConfigError, unknown_name

MOST = 1_000_000_000
"""The most of anything that is counted."""

BOUNDS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "ge": (operator.ge, "{:,} or greater"),
    "gt": (operator.gt, "greater than {:,}"),
    "le": (operator.le, "{:,} or less"),
    "lt": (operator.lt, "less than {:,}"),
}
"""Names of bounds, as pydantic has them too, with their test and their words."""


def setting(
    default: Any,
    meaning: str,
    *,
    check: Callable[[Any], None] | None = None,
    limits: tuple[float, float] | None = None,
    **bounds: float,
) -> Any:
    """A field of a group of settings.

    Args:
        default: its value when nothing is said; ``dataclasses.MISSING`` when it must be said.
        meaning: a sentence for the one who sets it.
        check: raises ``ValueError`` with what a value must be, where bounds cannot say it.
        limits: the least and the most of a scheduled value; held where its steps are known.
        bounds: of the value, unless it is None; names as in ``BOUNDS``.
    """
    assert bounds.keys() <= BOUNDS.keys()
    metadata = {"description": meaning, "check": check, "limits": limits, **bounds}
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def count(default: Any, meaning: str, *, le: int = MOST) -> Any:
    """A field that counts something of which there is one at least."""
    return setting(default, meaning, ge=1, le=le)


def field_of(group: type, name: str) -> dataclasses.Field[Any]:
    """A field of a group of settings, for whoever has the same setting."""
    (field,) = (field for field in dataclasses.fields(group) if field.name == name)
    return field


def check_settings(group: Any) -> None:
    """Hold the values of a group to the bounds and choices of its fields.

    Raises:
        ConfigError: one is outside; the message says what it must be and what it means.
    """
    hints = get_type_hints(type(group))
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        known = tuple(_choices(hints[field.name]))
        if known and value is not None and value not in known:
            raise unknown_name(field.name, value, known)
        if value is not None and (must := _wanted(value, field.metadata)):
            raise ConfigError(
                f"`{field.name}` is {value}, and {must}. It means: {field.metadata['description']}"
            )


def _choices(hint: Any) -> Iterator[str]:
    """The names that a field may have; none where it is no choice of names."""
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    else:
        for part in get_args(hint):
            yield from _choices(part)


def _wanted(value: Any, metadata: Any) -> str:
    """What a value must be and is not; empty when it is all right."""
    for name, (holds, words) in BOUNDS.items():
        if name in metadata and not holds(value, metadata[name]):
            return f"must be {words.format(metadata[name])}"
    try:
        if metadata.get("check") is not None:
            metadata["check"](value)
    except ValueError as error:
        return str(error)
    return ""
