"""What all sections of a recipe are made of."""

import dataclasses
from collections.abc import Callable, Container
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from tutelage.errors import ConfigError
from tutelage.generation.settings import HOTTEST, check_temperature
from tutelage.generation.settings import Precision as PlainPrecision
from tutelage.settings import BOUNDS, MOST, field_of

_SHORT = {"fp32": "float32", "bf16": "bfloat16"}
Group = TypeVar("Group")
Given = TypeVar("Given")


def _holds(check: Callable[[Any], None]) -> AfterValidator:
    """A check of a value that is there, as pydantic has it."""

    def checked(value: Any) -> Any:
        if value is not None:
            check(value)
        return value

    return AfterValidator(checked)


Positive = Annotated[int, Field(ge=1, le=MOST)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""What numpy takes as a seed."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Precision = Annotated[
    PlainPrecision,
    BeforeValidator(lambda value: _SHORT.get(value, value) if isinstance(value, str) else value),
]
"""Of weights or of matrix products; the short names ``fp32`` and ``bf16`` will do."""
NotEmpty = Annotated[str, Field(min_length=1)]
Temperature = Annotated[float, Field(ge=0.0, le=HOTTEST), _holds(check_temperature)]
"""Of sampling; one that is not 0 must leave logits that can still be told apart."""

ScheduleSpec = float | dict[str, Any]


class Strict(BaseModel):
    """A section: no unknown keys, no change after loading, and no guessing of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def values_of(self, group: type[Group], **others: Any) -> Group:
        """A group of settings with what this section says of it.

        Args:
            group: its dataclass; a field that the section lacks has its default.
            others: fields with other values than here.
        """
        names = {field.name for field in dataclasses.fields(group)}  # type: ignore[arg-type]
        said = {name: getattr(self, name) for name in type(self).model_fields if name in names}
        return group(**{**said, **others})


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def given(value: Given | None, key: str) -> Given:
    """A value that a run needs; ``Recipe.missing`` names it before anything asks for it.

    Raises:
        ConfigError: the recipe was loaded as a part of one, and has none.
    """
    if value is None:
        raise ConfigError(f"The recipe lacks `{key}`, which a run needs. Give one.")
    return value


class Choice(Strict):
    """A component by its ``kind``; every other key is one of its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str = Field(description="Name of the component; see `tutelage ls`.")

    @property
    def options(self) -> dict[str, Any]:
        """The options that the recipe gives."""
        return dict(self.model_extra or {})


def same_as(group: type, name: str, meaning: str = "", **changes: Any) -> Any:
    """A field of a section that is a field of a group of settings.

    Args:
        group: a dataclass made of ``tutelage.settings.setting``.
        name: of the field in it.
        meaning: where the section says it in other words.
        changes: a ``default`` or a bound that differs in the section.
    """
    return _field(field_of(group, name), **({"description": meaning} if meaning else {}), **changes)


def _field(field: dataclasses.Field[Any], **changes: Any) -> Any:
    """The field of a dataclass as one of pydantic."""
    what: dict[str, Any] = {"description": field.metadata["description"]}
    what |= {name: field.metadata[name] for name in BOUNDS if name in field.metadata}
    made = field.default_factory is not dataclasses.MISSING
    what |= {"default_factory": field.default_factory} if made else {"default": field.default}
    return Field(**(what | changes))


def section_of(group: type, base: type[Strict], without: Container[str] = ()) -> Any:
    """A section with every field of a group of settings, in its order.

    Args:
        group: a dataclass made of ``tutelage.settings.setting``.
        base: what kind of section.
        without: names of fields that are no keys.

    Returns:
        A class to inherit from: the section's words and checks are written below it.
    """
    hints = get_type_hints(group)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(group):
        if field.name not in without:
            check = field.metadata["check"]
            hint = hints[field.name]
            fields[field.name] = (
                hint if check is None else Annotated[hint, _holds(check)],
                _field(field),
            )
    return create_model(group.__name__, __base__=base, **fields)
