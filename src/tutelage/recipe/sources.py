"""Where the examples of a split come from: one source, or a list of them."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    model_serializer,
    model_validator,
)

from tutelage.data.sources import Source, check_sources
from tutelage.recipe.base import NotEmpty, Positive, Strict

ExampleColumn = Literal[
    "messages",
    "conversations",
    "system",
    "tools",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "question",
    "answer",
    "id",
    "group",
]


class DataSource(Strict):
    """One of several sources; a text alone is its `path`. What it leaves out is as in `data`."""

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
    name: NotEmpty | None = Field(
        default=None, description="Config of a hub data set, or of a folder that is laid out so."
    )
    revision: NotEmpty | None = Field(default=None, description="Branch, tag or commit on the hub.")
    first: Positive | None = Field(
        default=None, description="Read only its first so many rows, and nothing after them."
    )
    columns: dict[ExampleColumn, str] | None = Field(
        default=None, description="What it calls its columns, in place of data.columns."
    )
    system: str | None = Field(
        default=None, description="System text for its examples, in place of data.system."
    )

    @property
    def plain(self) -> Source:
        """The source as those who read it take it."""
        return Source(
            self.path,
            self.weight,
            group=self.group or "",
            split=self.split or "",
            name=self.name or "",
            revision=self.revision or "",
            first=self.first,
            columns=None if self.columns is None else {**self.columns},
            system=self.system,
        )

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
