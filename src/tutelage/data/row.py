"""One row of a source of examples, with the place that it came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.errors import DataError


@dataclass(frozen=True)
class Row:
    """One row of a source.

    Attributes:
        where: the file and the line or row number, for messages.
        columns: the row's values by column.
        found: the names of all columns of the source, those that were not read included.
    """

    where: str
    columns: dict[str, Any]
    found: Sequence[str]


def object_row(value: Any, where: str) -> Row:
    """A row from a JSON value.

    Raises:
        DataError: the value is no object.
    """
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: this row is of type {type(value).__name__}, but an object with columns is"
            ' needed, such as {"prompt": "...", "completion": "..."}. Convert the row.'
        )
    return Row(where, value, tuple(value))


def check_columns_differ(columns: Sequence[str], where: str) -> None:
    """Raise a ``DataError`` when two columns of a table have one name; unnamed ones may."""
    repeated = [name for name in columns if name and list(columns).count(name) > 1]
    if repeated:
        raise DataError(
            f"{where}: the column '{repeated[0]}' occurs twice, and only one of the two could"
            " count. Rename or remove one of them."
        )


def columns_to_read(found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The columns that are wanted; one of the others when none is, so that there are still rows."""
    return [column for column in found if column in wanted] or list(found[:1])


def wrong_type(row: Row, column: str, value: Any, expected: str) -> DataError:
    """The error for a value that is of another type than is needed."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return DataError(
        f"{row.where}: the column '{column}' holds {type(value).__name__} {shown}, but {expected}"
        " is needed. Convert the column."
    )
