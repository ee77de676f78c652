"""What all sections of a recipe are made of."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

_SHORT = {"fp32": "float32", "bf16": "bfloat16"}


def _check_temperature(value: float) -> float:
    if 0.0 < value < 0.001:
        raise ValueError(f"must be 0 (greedy) or at least 0.001, not {value:g}")
    return value


Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""What numpy takes as a seed."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Precision = Annotated[
    Literal["float32", "bfloat16"],
    BeforeValidator(lambda value: _SHORT.get(value, value) if isinstance(value, str) else value),
]
"""Of weights or of matrix products; the short names ``fp32`` and ``bf16`` will do."""
NotEmpty = Annotated[str, Field(min_length=1)]
Temperature = Annotated[float, Field(ge=0.0, le=1000.0), AfterValidator(_check_temperature)]
"""Of sampling; one that is not 0 must leave logits that can still be told apart."""

ScheduleSpec = float | dict[str, Any]


class Strict(BaseModel):
    """A section: no unknown keys, no change after loading, and no guessing of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Choice(Strict):
    """A component by its ``kind``; every other key is one of its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str = Field(description="Name of the component; see `tutelage ls`.")

    @property
    def options(self) -> dict[str, Any]:
        """The options that the recipe gives."""
        return dict(self.model_extra or {})
