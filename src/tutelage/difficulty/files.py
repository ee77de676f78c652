"""Difficulty profiles as files: parquet with ids and scores; CSV can be read too."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tutelage.data.row import check_columns_differ
from tutelage.data.text_files import check_content, find_delimiter
from tutelage.errors import DataError, first_line
from tutelage.files import disk_errors
from tutelage.ids import Ids
from tutelage.types import DifficultyProfile

_COMPUTE: Any = pyarrow.compute  # its functions are made at import, where no type checker sees them
_COLUMNS = ["id", "score"]


def save_profile(
    path: str | Path,
    profile: DifficultyProfile,
    *,
    num_tokens: Sequence[int] | NDArray[np.integer],
    groups: Sequence[str],
) -> None:
    """Write a profile as parquet with the columns id, score, num_tokens and group."""
    table = pa.table(
        {
            "id": profile.ids.text,
            "score": profile.scores,
            "num_tokens": np.asarray(num_tokens, dtype=np.int64),
            "group": Ids.of(groups).text.cast(pa.string()),
        },
        metadata={"measure": profile.measure},
    )
    with disk_errors(Path(path)):
        pq.write_table(table, path)


def load_profile(path: str | Path) -> DifficultyProfile:
    """Read a profile from parquet or CSV with the columns ``id`` and ``score``.

    Raises:
        DataError: the file is missing, is neither format, lacks a column, repeats an id, or holds a
            score that is no finite number.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise DataError(
            f"There is no difficulty file '{path}'. Give a CSV or parquet file with the columns"
            " id and score; `tutelage profile RECIPE` makes one."
        )
    table = _read_table(path)
    ids = _ids(path, table["id"])
    metadata = table.schema.metadata or {}
    measure = metadata.get(b"measure", path.stem.encode()).decode("utf-8", "replace")
    scores = _numbers(path, ids, table["score"])
    try:
        return DifficultyProfile(ids, scores, measure)
    except DataError as error:
        raise DataError(f"'{path}': {error}") from error


def _read_table(path: Path) -> pa.Table:
    """The file's columns id and score, and in CSV whatever else there is."""
    try:
        if path.suffix == ".parquet":
            check_content(path, expected=b"PAR1")
            file = pq.ParquetFile(path)
            _check_columns(path, file.schema_arrow.names)
            table = file.read(_COLUMNS)  # what else there may be takes memory for nothing
        else:
            check_content(path)
            # Ids stay text: "007" must not become 7.
            types = pacsv.ConvertOptions(column_types={"id": pa.string()})
            delimiter = pacsv.ParseOptions(delimiter=_delimiter(path))
            table = pacsv.read_csv(path, convert_options=types, parse_options=delimiter)
            _check_columns(path, table.column_names)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"'{path}' cannot be read as a difficulty file: {first_line(error)}. It must be CSV or"
            " parquet with the columns id and score."
        ) from error
    return table


def _check_columns(path: Path, names: list[str]) -> None:
    check_columns_differ(names, f"'{path}'")
    for column in _COLUMNS:
        if column not in names:
            raise DataError(
                f"'{path}' has no column '{column}'; it has {', '.join(names)}."
                " A difficulty file needs the columns id and score."
            )


def _delimiter(path: Path) -> str:
    with path.open("rb") as file:
        header = file.readline().decode("utf-8", "replace")
    return find_delimiter(header, ("id", "score"))


def _ids(path: Path, column: pa.ChunkedArray) -> Ids:
    """Ids as text: each is there, and is a text or a whole number."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not text and not pa.types.is_integer(kind):
        raise DataError(
            f"The ids in '{path}' are of type {kind}. They must be texts or whole numbers, the ids"
            " of the examples. Convert the column."
        )
    missing = column.is_null()
    if text:
        blank = _COMPUTE.equal(_COMPUTE.utf8_trim_whitespace(column), "")
        missing = _COMPUTE.or_kleene(missing, blank)
    rows = _COMPUTE.index(missing.combine_chunks(), True).as_py()
    if rows >= 0:
        raise DataError(
            f"'{path}', row {rows + 1}: the id is empty. Each score belongs to an example: give"
            " its id, or remove the row."
        )
    return Ids(column)


def _numbers(path: Path, ids: Sequence[str], column: pa.ChunkedArray) -> np.ndarray:
    numeric = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    if numeric and not column.null_count:
        return column.to_numpy().astype(np.float64)
    # Anything else is looked at row by row: what is no number is named, with its example.
    scores = np.empty(len(ids))
    for row, value in enumerate(column.to_pylist()):
        try:
            if isinstance(value, bool):
                raise TypeError
            scores[row] = float(value)
        except (TypeError, ValueError):
            raise DataError(
                f"'{path}', row {row + 1}: the score of example '{ids[row]}' is {value!r}, which is"
                " not a number. Mend it, or remove the row: higher means harder."
            ) from None
    return scores
