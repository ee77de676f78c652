"""Rows from files and hubs: each with the place it came from, so that every error can name it."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from datasets.exceptions import DatasetsError

from tutelage.errors import DataError, did_you_mean


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


def read_rows(source: str, split: str, wanted: Sequence[str]) -> Iterator[Row]:
    """The rows of a file, a saved folder or a hub data set, in order.

    Args:
        source: a file with a known suffix, a folder written by ``datasets.save_to_disk``, or a hub
            name, optionally ``name:config``.
        split: the split to read where the source has several.
        wanted: columns to read from formats that store columns apart; other columns are skipped.

    Raises:
        DataError: the source does not exist, cannot be reached, or is malformed.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _read_saved(path, split, wanted)
    reader = _READERS.get(path.suffix.lower())
    if path.is_file():
        if reader is None:
            raise DataError(
                f"'{source}' ends in '{path.suffix}', which is no known format. Known:"
                f" {', '.join(_READERS)}. Convert the file or rename it."
            )
        return reader(path, wanted)
    if reader is not None or source.startswith(("/", "./", "../", "~")) or source.count("/") > 1:
        raise _missing_file(source, path)
    return _read_hub(source, split, wanted)


def _missing_file(source: str, path: Path) -> DataError:
    if not path.parent.is_dir():
        return DataError(
            f"'{source}' does not exist, and neither does its folder. Correct the path; it counts"
            f" from '{Path.cwd()}' unless it begins with '/'."
        )
    hint = did_you_mean(path.name, [entry.name for entry in path.parent.iterdir()])
    return DataError(
        f"'{source}' does not exist.{hint} Correct the path; it counts from '{Path.cwd()}' unless"
        " it begins with '/'."
    )


def _decode(content: bytes, path: Path, first_line: int = 1) -> str:
    """``content`` as UTF-8 text, without a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        raise DataError(
            f"'{path}', line {line}: byte 0x{content[error.start]:02x} is not UTF-8. Save the file"
            " as UTF-8; `iconv -f LATIN1 -t UTF-8` converts the usual other encoding."
        ) from error


def _object_row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: this row is of type {type(value).__name__}, but an object with columns is"
            ' needed, such as {"prompt": "...", "completion": "..."}. Convert the row.'
        )
    return Row(where, value, tuple(value))


def _read_jsonl(path: Path, wanted: Sequence[str]) -> Iterator[Row]:
    # Lines are split at \n in bytes: str.splitlines would also split at U+2028 inside a text.
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            line = _decode(raw, path, number)
            if not line.strip():
                continue
            where = f"'{path}', line {number}"
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{where}: not valid JSON: {error.msg} at column {error.colno}. Each line must"
                    " hold one whole JSON object. Mend or remove the line."
                ) from error
            yield _object_row(value, where)


def _read_json(path: Path, wanted: Sequence[str]) -> Iterator[Row]:
    try:
        value = json.loads(_decode(path.read_bytes(), path))
    except json.JSONDecodeError as error:
        lines = error.msg == "Extra data"
        advice = "It looks like JSON Lines: rename it to .jsonl." if lines else "Mend the file."
        raise DataError(
            f"'{path}', line {error.lineno}: not valid JSON: {error.msg} at column {error.colno}."
            f" {advice}"
        ) from error
    if isinstance(value, dict):
        value = value.get("data")
    if not isinstance(value, list):
        raise DataError(
            f"'{path}' must hold a list of objects, or an object with such a list under \"data\"."
            " Convert it, or write one object a line to a .jsonl file."
        )
    for number, item in enumerate(value, start=1):
        yield _object_row(item, f"'{path}', row {number}")


def _read_csv(path: Path, wanted: Sequence[str]) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(_decode(path.read_bytes(), path), newline=""), strict=True)
    header: list[str] = []
    line = 1
    try:
        for cells in reader:
            # A quoted cell may hold line breaks; the row is named by the line it starts at.
            where, line = f"'{path}', line {line}", reader.line_num + 1
            if not cells:
                continue
            if not header:
                header = cells
                _check_header(header, where)
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{where}: {len(cells)} cells were found for {len(header)} columns. Quote cells"
                    " that hold commas or line breaks."
                )
            yield Row(where, dict(zip(header, cells, strict=True)), header)
    except csv.Error as error:
        raise DataError(
            f"'{path}', line {line}: not valid CSV: {error}. Mend the quotes, or use a .jsonl file,"
            " which has no such limits."
        ) from error


def _check_header(header: list[str], where: str) -> None:
    repeated = [name for name in header if header.count(name) > 1]
    if repeated:
        raise DataError(f"{where}: the column '{repeated[0]}' occurs twice. Rename one of them.")


def _read_parquet(path: Path, wanted: Sequence[str]) -> Iterator[Row]:
    try:
        names = pq.read_schema(path).names
        table = pq.read_table(path, columns=_columns_to_read(names, wanted))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"'{path}' cannot be read as parquet: {_first_line(error)}. Write the file again."
        ) from error
    for number, columns in enumerate(table.to_pylist(), start=1):
        yield Row(f"'{path}', row {number}", columns, names)


def _read_saved(path: Path, split: str, wanted: Sequence[str]) -> Iterator[Row]:
    try:
        data = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        files = sorted(f.name for f in path.iterdir() if f.suffix.lower() in _READERS)
        advice = f" Name one of its files: {', '.join(files[:5])}." if files else ""
        raise DataError(
            f"'{path}' is a folder, but none that `datasets.save_to_disk` wrote"
            f" ({_first_line(error)}).{advice or ' Name a data file instead.'}"
        ) from error
    if isinstance(data, datasets.DatasetDict):
        splits = [str(name) for name in data]
        if split not in splits:
            raise DataError(
                f"'{path}' has no split '{split}'.{did_you_mean(split, splits)} It has:"
                f" {', '.join(splits)}. Name one of these."
            )
        data = data[split]
    return _dataset_rows(data, str(path), wanted)


def _read_hub(source: str, split: str, wanted: Sequence[str]) -> Iterator[Row]:
    name, _, config = source.partition(":")
    try:
        data = datasets.load_dataset(name, config or None, split=split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise DataError(
            f"'{source}' is no file here, and as a data set of the hub (split '{split}') it cannot"
            f" be loaded: {_first_line(error)}. Check the name, its config (`name:config`), the"
            " split and the network, or give a local file."
        ) from error
    if not isinstance(data, datasets.Dataset):
        raise DataError(f"'{source}' has no single split '{split}'. Name one split.")
    return _dataset_rows(data, source, wanted)


def _dataset_rows(data: datasets.Dataset, name: str, wanted: Sequence[str]) -> Iterator[Row]:
    found = data.column_names
    columns = data.select_columns(_columns_to_read(found, wanted))
    for number, row in enumerate(columns.to_list(), start=1):
        yield Row(f"'{name}', row {number}", row, found)


def _columns_to_read(found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The columns that are wanted; one of the others when none is, so that there are still rows."""
    return [column for column in found if column in wanted] or list(found[:1])


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


_READERS: dict[str, Callable[[Path, Sequence[str]], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
