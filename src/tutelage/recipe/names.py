"""Checks of names and options against the tables of components, imported one by one."""

import contextlib
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tutelage.components import Limits, Names, bind, lookup, marks_of, unknown_option
from tutelage.curriculum import CurriculumOptions
from tutelage.errors import ConfigError
from tutelage.families import table_of
from tutelage.recipe.trials import try_out
from tutelage.recipe.words import SettingError, below, expected, shown

if TYPE_CHECKING:
    from tutelage.curriculum.teaching import TeacherSchedule
    from tutelage.targets.tokens import TokenChoice


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
        SettingError: they do not; the message suggests the nearest name.
    """
    table = table_of(family)
    with _at("kind"):
        component = lookup(table, family, kind)
    for option, value in options.items():
        if option in component.options:
            _check_type(option, value, _written_as(component.options[option]))
        else:
            error = unknown_option(family, kind, option, {*component.options, *known})
            raise SettingError(option, str(error))
    with _at(""):
        bind(table, family, kind, options)
    for option, value in options.items():
        for mark in marks_of(component.options[option]):
            if isinstance(mark, Limits):
                if fault := mark.fault(value):
                    raise SettingError(option, fault)
            else:
                with below(option):
                    _check_named(mark, value)
    if options:
        # The defaults are known to be good; what a recipe gives is tried on the smallest input.
        with _at(""):
            try_out(family, kind, options)


def _written_as(option: inspect.Parameter) -> Any:
    """The type that a recipe gives an option: that of the function, but schedules are built."""
    is_built = Names("schedule") in marks_of(option)
    return list[float | dict[str, Any]] if is_built else option.annotation


def _check_named(mark: Names, value: Any) -> None:
    """An option that names components: one of them, or a list."""
    if mark.family == "schedule" and not isinstance(value, list):
        check_schedule(value)
        return
    if isinstance(value, Mapping):
        named = dict(value)
        kind = named.pop("kind", None)
        if not isinstance(kind, str):
            raise SettingError("kind", "is missing: it names the component.")
        check_component(mark.family, kind, named)
        return
    if len(value) < mark.least:
        raise SettingError("", mark.fewer)
    for number, one in enumerate(value):
        with below(str(number)):
            _check_named(mark, one)


@contextlib.contextmanager
def _at(path: str) -> Iterator[None]:
    """What does not fit inside, does so at a dotted path."""
    try:
        yield
    except SettingError:
        raise
    except ConfigError as error:
        raise SettingError(path, str(error)) from error


def check_template(template: str) -> None:
    """Make sure that a template of the data is a name or a text with fields in it.

    Raises:
        SettingError: it is not.
    """
    from tutelage.data.templates import check_template

    with _at(""):
        check_template(template)


def check_style(style: str, answer_format: str) -> None:
    """Make sure that a teacher can be asked in this way.

    Raises:
        SettingError: it cannot.
    """
    from tutelage.data.templates import check_style

    with _at(""):
        check_style(style, answer_format)


def check_levels(levels: Sequence[int]) -> None:
    """Make sure that these levels of the embedded task exist.

    Raises:
        SettingError: they do not.
    """
    from tutelage.data.arithmetic import check_levels

    with _at(""):
        check_levels(levels)


def check_lists(name: str, values: Sequence[int]) -> None:
    """Make sure that the embedded task of lists has such levels or lengths.

    Raises:
        SettingError: it has not.
    """
    from tutelage.data.lists import check_values

    with _at(""):
        check_values(name, values)


def _check_type(option: str, value: Any, annotation: Any) -> None:
    config = ConfigDict(strict=True, allow_inf_nan=False)
    try:
        TypeAdapter(annotation, config=config).validate_python(value)
    except ValidationError as error:
        wanted = [expected(details) or details["msg"] for details in error.errors()]
        must = " or ".join(dict.fromkeys(wanted))
        raise SettingError(option, f"must be {must}, not {shown(value)}.") from error


def check_curriculum(options: CurriculumOptions) -> None:
    """Make sure that a curriculum can stage data with what a recipe gives it.

    Raises:
        SettingError: it cannot.
    """
    import numpy as np

    from tutelage.types import DifficultyProfile

    if not options.options:
        return
    few = np.arange(1.0, options.stages + 2)
    profile = DifficultyProfile([str(n) for n in range(len(few))], few)
    with _at(""):
        tried = CurriculumOptions(options.kind, options.stages, options=options.options)
        tried.subset(len(few), tried.sizes(profile, 1), 1, 0)
        tried.draw(profile, 1)


def needs_of(kind: str, options: Mapping[str, Any]) -> frozenset[str]:
    """What a difficulty must have measured, such as ``teacher_losses``; see ``Measurements``."""
    from tutelage.difficulty import needs

    return frozenset(needs(kind, options))


def teacher_schedule(kind: str) -> "TeacherSchedule":
    """The row of a teacher schedule that exists."""
    from tutelage.curriculum.teaching import TEACHER_SCHEDULES

    return TEACHER_SCHEDULES[kind]


def token_choice(kind: str) -> "TokenChoice":
    """The row of a choice of tokens that exists."""
    from tutelage.targets.tokens import TOKEN_CHOICES

    return TOKEN_CHOICES[kind]


def check_schedule(spec: float | Mapping[str, Any]) -> None:
    """Make sure that a schedule can be built.

    Raises:
        SettingError: its kind, an option or a value does not fit.
    """
    from tutelage.schedules import scheduled, words_of

    if isinstance(spec, Mapping):
        options = dict(spec)
        for word in ("kind", "per", "grid"):
            if word in options:
                _check_type(word, options[word], str)
        kind = options.pop("kind", None)
        if kind is not None:
            beside = words_of(kind)
            for word in beside:
                options.pop(word, None)
            check_component("schedule", kind, options, known=beside)
    with _at(""):
        scheduled(spec)


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
