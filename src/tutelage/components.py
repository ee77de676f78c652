"""Tables of named components, and how a recipe's ``{kind: ..., option: ...}`` becomes a call.

A component is a plain function. Its keyword-only parameters are its options, so that an option is
declared once: where it is used. What its type cannot say of an option, ``Annotated`` says there
with ``Limits`` or ``Names``. A family (divergences, pacing functions, schedules) is one dictionary
from name to ``Component``; a row in that dictionary buys the family's contract test, a line in
``tutelage ls`` and validation of recipes.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from tutelage.errors import ConfigError, did_you_mean, unknown_name


@dataclass(frozen=True)
class Limits:
    """Of an option that is a number, as ``Annotated[int, Limits(1, 1000)]``.

    Attributes:
        low: the least that a recipe may give.
        high: the most.
        below: whether it must stay below ``high``.
        or_zero: whether 0 will do as well.
    """

    low: float
    high: float
    below: bool = False
    or_zero: bool = False

    def fault(self, value: float) -> str:
        """What a value must be and is not; empty when it is all right."""
        inside = self.low <= value <= self.high and not (self.below and value == self.high)
        if inside or (self.or_zero and value == 0):
            return ""
        reach = f"at least {self.low:,} and below" if self.below else f"between {self.low:,} and"
        return f"must be {reach} {self.high:,}, not {value:g}."


@dataclass(frozen=True)
class Names:
    """Of an option that names components, as ``Annotated[Mapping[str, Any], Names("metric")]``.

    It is one ``{kind: ..., options}``, or a list of them.

    Attributes:
        family: what a member of the family is called.
        least: how many a list must hold.
        fewer: what to say when it holds fewer.
    """

    family: str
    least: int = 0
    fewer: str = ""


def marks_of(parameter: inspect.Parameter) -> list[Limits | Names]:
    """What ``Annotated`` says of an option."""
    return [mark for mark in get_args(parameter.annotation) if isinstance(mark, (Limits, Names))]


@dataclass(frozen=True)
class Component:
    """A function with what ``tutelage ls`` says about it.

    Attributes:
        function: the component itself; its keyword-only parameters are its options.
        summary: one line.
        paper: where it comes from, as ``Author et al. YEAR, arXiv:ID``; empty for common knowledge.
    """

    function: Callable[..., Any]
    summary: str
    paper: str = ""

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The keyword-only parameters of the function by name."""
        parameters = inspect.signature(self.function).parameters.values()
        return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def lookup(table: Mapping[str, Component], family: str, name: str) -> Component:
    """The component called ``name``.

    Args:
        table: the family's table.
        family: what its members are called in messages, for example ``"divergence"``.
        name: the name to look up.

    Raises:
        ConfigError: there is no such name; the message suggests the nearest one.
    """
    if name not in table:
        raise unknown_name(family, name, table)
    return table[name]


def unknown_option(family: str, name: str, option: str, known: Iterable[str]) -> ConfigError:
    """The error for an option that a component does not have."""
    known = sorted(known)
    listed = f"Known: {', '.join(known)}." if known else "It has no options."
    return ConfigError(
        f"The {family} '{name}' has no option '{option}'.{did_you_mean(option, known)} {listed}"
    )


def bind(
    table: Mapping[str, Component], family: str, name: str, options: Mapping[str, Any]
) -> Callable[..., Any]:
    """The function called ``name`` with its options filled in.

    Args:
        table: the family's table.
        family: what its members are called in messages.
        name: the component's name.
        options: values for keyword-only parameters of the function.

    Raises:
        ConfigError: unknown name, unknown option, or an option without default that is missing.
    """
    component = lookup(table, family, name)
    known = component.options
    for option in options:
        if option not in known:
            raise unknown_option(family, name, option, known)
    for option, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and option not in options:
            raise ConfigError(f"The {family} '{name}' needs the option '{option}'.")
    return functools.partial(component.function, **options)
