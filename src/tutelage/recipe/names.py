"""Checks of names and options against the tables of components; imported only when needed."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tutelage.components import Component, bind, lookup, unknown_option
from tutelage.errors import ConfigError
from tutelage.recipe.words import Misfit, expected, shown


def _table(family: str) -> Mapping[str, Component]:
    if family == "divergence":
        from tutelage.divergences import DIVERGENCES as table
    elif family == "target":
        from tutelage.targets import TARGETS as table
    elif family == "difficulty":
        from tutelage.difficulty.table import DIFFICULTIES as table
    elif family == "curriculum":
        from tutelage.curriculum import CURRICULA as table
    elif family == "teacher schedule":
        from tutelage.curriculum import TEACHER_SCHEDULES as table
    elif family == "controller":
        from tutelage.schedules import CONTROLLERS as table
    else:
        assert family == "metric"
        from tutelage.verifiers import VERIFIERS as table
    return table


def check_component(
    family: str, kind: str, options: Mapping[str, Any], known: Iterable[str] = ()
) -> None:
    """Make sure that a component and its options exist, and that the options have the right type.

    Args:
        family: what its members are called.
        kind: the component's name.
        options: its options.
        known: further keys that may stand beside the options, for suggestions.

    Raises:
        Misfit: they do not; the message suggests the nearest name.
    """
    table = _table(family)
    try:
        component = lookup(table, family, kind)
    except ConfigError as error:
        raise Misfit("kind", str(error)) from error
    for option, value in options.items():
        if option in component.options:
            _check_type(option, value, component.options[option].annotation)
        else:
            error = unknown_option(family, kind, option, {*component.options, *known})
            raise Misfit(option, str(error))
    _bind(table, family, kind, options, "")


def _bind(
    table: Mapping[str, Component], family: str, kind: str, options: Mapping[str, Any], path: str
) -> None:
    try:
        bind(table, family, kind, options)
    except ConfigError as error:
        raise Misfit(path, str(error)) from error


def _check_type(option: str, value: Any, annotation: Any) -> None:
    try:
        TypeAdapter(annotation, config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        wanted = [expected(details) or details["msg"] for details in error.errors()]
        must = " or ".join(dict.fromkeys(wanted))
        raise Misfit(option, f"must be {must}, not {shown(value)}.") from error


def needs_of(kind: str, options: Mapping[str, Any]) -> frozenset[str]:
    """What a difficulty must have measured, such as ``teacher_losses``; see ``Measurements``."""
    from tutelage.difficulty import needs

    return frozenset(needs(kind, options))


def check_schedule(spec: float | Mapping[str, Any]) -> None:
    """Make sure that a schedule can be built.

    Raises:
        Misfit: its kind, an option or a value does not fit.
    """
    from tutelage.schedules import scheduled

    if isinstance(spec, Mapping):
        _check_schedule_types(spec)
    try:
        scheduled(spec)
    except ConfigError as error:
        raise Misfit("", str(error)) from error


def _check_schedule_types(spec: Mapping[str, Any]) -> None:
    for option in ("value", "start", "end", "max"):
        if option in spec:
            _check_type(option, spec[option], float)
    for option in ("values", "boundaries"):
        if option in spec:
            _check_type(option, spec[option], list[float])
    if "schedules" in spec:
        _check_type("schedules", spec["schedules"], list[float | dict[str, Any]])
        for part in spec["schedules"]:
            check_schedule(part)


def schedule_range(spec: float | Mapping[str, Any], num_stages: int) -> tuple[float, float]:
    """Least and greatest value that a schedule takes.

    Args:
        spec: a schedule that :func:`check_schedule` has let pass.
        num_stages: how many stages there are. A schedule that moves at every step is looked at
            over 1,000 steps, because nobody knows their number yet.
    """
    import numpy as np

    from tutelage.schedules import scheduled

    value = scheduled(spec)
    points = np.arange(1, num_stages + 1) if value.per == "stage" else np.ones(1000, dtype=np.int64)
    values = value.values(points, num_stages)
    return float(values.min()), float(values.max())
