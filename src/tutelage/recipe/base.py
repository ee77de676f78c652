"""What all sections of a recipe are made of."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_SHORT = {"fp32": "float32", "bf16": "bfloat16"}

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Precision = Annotated[
    Literal["float32", "bfloat16"],
    BeforeValidator(lambda value: _SHORT.get(value, value) if isinstance(value, str) else value),
]
"""Of weights or of matrix products; the short names ``fp32`` and ``bf16`` will do."""
ScheduleSpec = float | dict[str, Any]


class Strict(BaseModel):
    """A section: no unknown keys, no change after loading, and no guessing of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Component(Strict):
    """A component by its ``kind``; every other key is one of its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str = Field(description="Name of the component; see `tutelage ls`.")

    @property
    def options(self) -> dict[str, Any]:
        """The options that the recipe gives."""
        return dict(self.model_extra or {})
