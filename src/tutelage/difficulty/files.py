"""Difficulty profiles as files: parquet with ids and scores; CSV can be read too."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from tutelage.errors import DataError
from tutelage.files import disk_errors
from tutelage.ids import Ids
from tutelage.types import DifficultyProfile


def save_profile(
    path: str | Path,
    profile: DifficultyProfile,
    *,
    num_tokens: Sequence[int],
    groups: Sequence[str],
) -> None:
    """Write a profile as parquet with the columns id, score, num_tokens and group."""
    table = pa.table(
        {
            "id": profile.ids.text,
            "score": profile.scores,
            "num_tokens": np.asarray(num_tokens, dtype=np.int64),
            "group": pa.array(groups, pa.string()),
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
    if not path.is_file():
        raise DataError(
            f"There is no difficulty file '{path}'. Give a CSV or parquet file with the columns"
            " id and score; `tutelage profile RECIPE` makes one."
        )
    table = _read_table(path)
    for column in ("id", "score"):
        if column not in table.column_names:
            raise DataError(
                f"'{path}' has no column '{column}'; it has {', '.join(table.column_names)}."
                " A difficulty file needs the columns id and score."
            )
    ids = _ids(table["id"])
    metadata = table.schema.metadata or {}
    measure = metadata.get(b"measure", path.stem.encode()).decode()
    return DifficultyProfile(ids, _numbers(path, ids, table["score"]), measure)


def _read_table(path: Path) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            return pq.read_table(path)
        # Ids stay text: "007" must not become 7.
        types = pacsv.ConvertOptions(column_types={"id": pa.string()})
        return pacsv.read_csv(path, convert_options=types)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"'{path}' cannot be read as a difficulty file: {reason} It must be CSV or parquet"
            " with the columns id and score."
        ) from error


def _ids(column: pa.ChunkedArray) -> Ids:
    kind = column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
    if text and not column.null_count:
        return Ids(column)
    return Ids([str(value) for value in column.to_pylist()])


def _numbers(path: Path, ids: Sequence[str], column: pa.ChunkedArray) -> np.ndarray:
    numeric = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    if numeric and not column.null_count:
        return column.to_numpy().astype(np.float64)
    # Anything else is looked at row by row: what is no number is named, with its example.
    scores = np.empty(len(ids))
    for row, value in enumerate(column.to_pylist()):
        try:
            scores[row] = float(value)
        except (TypeError, ValueError):
            raise DataError(
                f"'{path}', row {row + 1}: the score of example '{ids[row]}' is {value!r}, which is"
                " not a number. Higher means harder."
            ) from None
    return scores
