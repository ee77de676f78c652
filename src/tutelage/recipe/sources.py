"""Where the examples of a split come from: one source, or a list of them."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    model_serializer,
    model_validator,
)

from tutelage.data.sources import Source, check_sources
from tutelage.recipe.base import NotEmpty, Strict


class DataSource(Strict):
    """One of several sources; a text alone is its `path`."""

    path: NotEmpty = Field(description="A file, a folder or a hub name.")
    weight: float | None = Field(
        default=None,
        gt=0,
        description="Its part of the data, beside the weights of the others; each has one, or none"
        " has: then all rows are taken.",
    )
    group: NotEmpty | None = Field(
        default=None, description="Group of the rows that name none themselves."
    )
    split: NotEmpty | None = Field(
        default=None, description="Split to read of a folder, a .json file or a hub name."
    )

    @property
    def plain(self) -> Source:
        """The source as those who read it take it."""
        return Source(self.path, self.weight, self.group or "", self.split or "")

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _as_it_is_written(self, write: Callable[[Any], dict[str, Any]]) -> Any:
        values = {name: value for name, value in write(self).items() if value is not None}
        return self.path if len(values) == 1 else values


def _fit_together(sources: list[DataSource]) -> list[DataSource]:
    check_sources([one.plain for one in sources])
    return sources


Sources = Annotated[
    Annotated[str, Tag("one")]
    | Annotated[list[DataSource], AfterValidator(_fit_together), Tag("several")],
    # Of a value that fits neither, only what it was meant as is said.
    Discriminator(lambda value: "several" if isinstance(value, list | dict) else "one"),
]
"""A text, or a list of texts and mappings."""


def plain_sources(given: str | Sequence[DataSource] | None) -> tuple[Source, ...]:
    """The sources of a split; none where the recipe names none."""
    if not given:
        return ()
    return (Source(given),) if isinstance(given, str) else tuple(one.plain for one in given)
