"""Plain words for what does not fit: no reader of a message needs to know pydantic."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.errors import ConfigError

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping (lines of `key: value`)",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "is_instance_of": "a list",  # the only class that an option asks for is Sequence
    "list_type": "a list",
    "model_attributes_type": "a mapping (lines of `key: value`)",
    "model_type": "a mapping (lines of `key: value`)",
    "sequence_str": "a list",
    "string_type": "text",
    "finite_number": "a finite number",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "{ge} or greater",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "string_too_short": "a text that is not empty",
    "literal_error": "{expected}",
    "too_short": "a list of {min_length} or more",
}


class SettingError(ConfigError):
    """A value that does not fit, at a dotted path below the section that was being checked.

    Attributes:
        path: dotted, relative to that section; the loader finds file and line by it.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


@contextlib.contextmanager
def below(key: str) -> Iterator[None]:
    """Put ``key`` before the path of a ``SettingError`` that is raised inside."""
    try:
        yield
    except SettingError as error:
        raise SettingError(f"{key}.{error.path}" if error.path else key, str(error)) from error


def expected(details: Mapping[str, Any]) -> str | None:
    """What a value must be, from an error of pydantic; None when there are no words for it."""
    template = _EXPECTED.get(details["type"])
    if template is None:
        return None
    context = {name: _number(value) for name, value in details.get("ctx", {}).items()}
    return template.format(**context)


def _number(value: Any) -> Any:
    """A bound as people write it."""
    if isinstance(value, float) and not value.is_integer():
        return f"{value:g}"
    return f"{int(value):,}" if isinstance(value, int | float) else value


def shown(value: Any) -> str:
    """A value as a message shows it."""
    if value is None:
        return "empty (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text '{value}'" if len(value) <= 60 else "such a long text"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a number of more than thirty digits"
    return str(value)
