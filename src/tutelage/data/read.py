"""Rows from files and hubs: each with the place it came from, so that every error can name it."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tutelage.data.hub import dataset_rows, read_hub
from tutelage.data.row import Row, check_columns_differ, columns_to_read
from tutelage.data.text_files import check_content, read_csv, read_json, read_jsonl
from tutelage.errors import DataError, did_you_mean, first_line

_CHUNK = 4096  # rows that are Python objects at once


def read_rows(
    source: str, split: str, wanted: Sequence[str], *, name: str = "", revision: str = ""
) -> Iterator[Row]:
    """The rows of a file, a saved folder or a hub data set, in order.

    Args:
        source: a file with a known suffix, a folder written by ``datasets.save_to_disk`` or with
            files named after the splits, or a hub name, optionally ``name:config``.
        split: the split to read where the source has several.
        wanted: columns to read from formats that store columns apart; other columns are skipped.
        name: the config of a hub data set, or of a folder that is laid out as one.
        revision: branch, tag or commit of a hub data set.

    Raises:
        DataError: the source does not exist, cannot be reached, or is malformed.
    """
    try:
        yield from _rows(source, split, wanted, name, revision)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"'{source}' cannot be read: {reason}. Check the path.") from error


def _rows(
    source: str, split: str, wanted: Sequence[str], name: str, revision: str
) -> Iterator[Row]:
    path = Path(source).expanduser()
    if path.is_dir():
        if name:
            return read_hub(str(path.resolve()), split, wanted, name=name)
        return _read_folder(path, split, wanted)
    suffix = format_of(path)
    reader = _READERS.get(suffix)
    if path.is_file():
        if reader is None:
            raise DataError(
                f"'{source}' ends in '{suffix}', which is no known format. Known:"
                f" {', '.join(_READERS)}. Convert the file or rename it."
            )
        return reader(path, split, wanted)
    if looks_like_a_file(source):
        raise _missing_file(source, path)
    return read_hub(source, split, wanted, name=name, revision=revision)


def format_of(path: Path) -> str:
    """The suffix that tells a file's format: the one before that of a compression."""
    packed = path.suffix.lower() in (".gz", ".bz2", ".xz")
    return (path.with_suffix("") if packed else path).suffix.lower()


def looks_like_a_file(source: str) -> bool:
    """Whether a source is meant as a path, and not as a name on the hub."""
    known = format_of(Path(source)) in _READERS
    return known or source.startswith(("/", "./", "../", "~")) or source.count("/") > 1


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


def _read_parquet(path: Path, split: str, wanted: Sequence[str]) -> Iterator[Row]:
    check_content(path, expected=b"PAR1")
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            check_columns_differ(names, f"'{path}'")
            for batch in file.iter_batches(columns=columns_to_read(names, wanted)):
                for columns in batch.to_pylist():
                    number += 1
                    yield Row(f"'{path}', row {number}", columns, names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"'{path}' cannot be read as parquet: {first_line(error)}. Write the file again."
        ) from error
    except UnicodeDecodeError as error:
        raise _not_text(path, number + 1, error) from error


def _read_arrow(path: Path, split: str, wanted: Sequence[str]) -> Iterator[Row]:
    check_content(path, expected=b"ARROW1")
    number = 0
    try:
        with pa.memory_map(str(path)) as file:
            table = _arrow_table(file)
            names = table.column_names
            check_columns_differ(names, f"'{path}'")
            for batch in table.select(columns_to_read(names, wanted)).to_batches(_CHUNK):
                batch.validate(full=True)  # Arrow trusts offsets, and damaged ones lead anywhere
                for columns in batch.to_pylist():
                    number += 1
                    yield Row(f"'{path}', row {number}", columns, names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"'{path}' cannot be read as Arrow: {first_line(error)}. Write the file again."
        ) from error
    except UnicodeDecodeError as error:
        raise _not_text(path, number + 1, error) from error


def _arrow_table(file: pa.MemoryMappedFile) -> pa.Table:
    """An Arrow file, or a stream, which `datasets` writes under the same ending."""
    try:
        return pa.ipc.open_file(file).read_all()
    except pa.ArrowInvalid:
        file.seek(0)
        return pa.ipc.open_stream(file).read_all()


def _not_text(path: Path, row: int, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"'{path}', in or after row {row}: a text is not UTF-8 ({error.reason}). Write the file"
        " again from texts."
    )


def _read_folder(path: Path, split: str, wanted: Sequence[str]) -> Iterator[Row]:
    saved = any((path / name).exists() for name in ("state.json", "dataset_dict.json"))
    files = [] if saved else _files_of(path, split)
    if not files:
        return _read_saved(path, split, wanted)
    return itertools.chain.from_iterable(
        _READERS[format_of(file)](file, split, wanted) for file in files
    )


def _files_of(path: Path, split: str) -> list[Path]:
    """The files of a split as repositories of data lay them out, here or in the folder ``data``.

    One file with the name of the split, or its numbered parts, such as
    ``train-00000-of-00003.parquet``.
    """
    part = re.compile(rf"{re.escape(split)}[-_]\d+([-_]of[-_]\d+)?")
    for folder in (path, path / "data"):
        there = sorted(folder.iterdir()) if folder.is_dir() else []
        there = [file for file in there if format_of(file) in _READERS]
        whole = [file for file in there if file.name.partition(".")[0] == split]
        parts = [file for file in there if part.fullmatch(file.name.partition(".")[0])]
        found = whole or parts
        if (whole and parts) or len(whole) > 1 or len({format_of(file) for file in found}) > 1:
            names = ", ".join(file.name for file in [*whole, *parts][:5])
            raise DataError(
                f"'{folder}' has several data sets for the split '{split}': {names}. Name the file"
                " that is meant."
            )
        if found:
            return found
    return []


def _read_saved(path: Path, split: str, wanted: Sequence[str]) -> Iterator[Row]:
    # Imported here: it costs a second, and most data are files.
    import datasets

    try:
        data = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        files = sorted(f.name for f in path.iterdir() if format_of(f) in _READERS)
        advice = f" Name one of its files: {', '.join(files[:5])}." if files else ""
        raise DataError(
            f"'{path}' is a folder, but none that `datasets.save_to_disk` wrote"
            f" ({first_line(error)}), and it has no file called '{split}'."
            f"{advice or ' Name a data file instead.'}"
        ) from error
    if isinstance(data, datasets.DatasetDict):
        splits = [str(name) for name in data]
        if split not in splits:
            raise DataError(
                f"'{path}' has no split '{split}'.{did_you_mean(split, splits)} It has:"
                f" {', '.join(splits)}. Name one of these."
            )
        data = data[split]
    try:
        data.data.validate(full=True)  # as above
    except pa.ArrowException as error:
        raise DataError(
            f"'{path}' is damaged: {first_line(error)}. Save the data set again."
        ) from error
    return dataset_rows(data, str(path), wanted)


_READERS: dict[str, Callable[[Path, str, Sequence[str]], Iterator[Row]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
    ".feather": _read_arrow,
}
