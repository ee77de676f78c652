"""Rows of text files: JSON Lines, JSON and CSV, in any Unicode encoding, compressed or not."""

import bz2
import contextlib
import csv
import gzip
import io
import itertools
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from tutelage.data.row import Row, check_columns_differ, object_row
from tutelage.errors import DataError

_HEAD = 1 << 12
_LONGEST_CELL = 2**31 - 1  # the csv module's own limit is 131,072 characters
_DELIMITERS = (",", ";", "\t", "|")
_COMPRESSIONS: dict[bytes, Callable[[Path], IO[bytes]]] = {
    b"\x1f\x8b": gzip.open,  # type: ignore[dict-item]
    b"BZh": bz2.open,  # type: ignore[dict-item]
    b"\xfd7zXZ\x00": lzma.open,  # type: ignore[dict-item]
}
_OTHER_CONTENT = {
    b"version https://git-lfs.github.com/spec": "is a pointer of Git LFS, not the data itself. Run"
    " `git lfs pull` in its repository, or download the file again",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd. Unpack it with `unzstd`",
    b"PK\x03\x04": "is a ZIP archive or an Excel workbook. Unpack it, or save the sheet as CSV",
    b"PAR1": "is a parquet file. Give it the ending .parquet",
    b"ARROW1": "is an Arrow file. Give it the ending .arrow",
}
_DAMAGED = (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
_SPARE_COMMA = re.compile(r",\s*[}\]]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def check_content(path: Path, expected: bytes = b"") -> None:
    """Raise a ``DataError`` when a file is empty, or by its first bytes is something else.

    Args:
        path: the file.
        expected: how its format begins, where that is one of the things that are looked for.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise DataError(
            f"'{path}' is empty (0 bytes), so it has no rows. Write or download it again."
        )
    for beginning, message in _OTHER_CONTENT.items():
        if head.startswith(beginning) and beginning != expected:
            raise DataError(f"'{path}' {message}.")


def _open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes, unpacked when it is compressed, whatever its name says."""
    with path.open("rb") as file:
        head = file.read(8)
    for beginning, opener in _COMPRESSIONS.items():
        if head.startswith(beginning):
            return opener(path)
    return path.open("rb")


@contextlib.contextmanager
def _open_text(path: Path, newline: str | None = None) -> Iterator[IO[str]]:
    """The file as text, in the encoding that its first bytes tell: UTF-8, UTF-16 or UTF-32."""
    check_content(path)
    try:
        with _open_bytes(path) as file:
            encoding = json.detect_encoding(file.read(_HEAD))
        # A line break inside a JSON text is always escaped, so that all kinds of them end a line.
        # U+2028 and its like do not, unlike in str.splitlines.
        with (
            _open_bytes(path) as file,
            io.TextIOWrapper(file, encoding=encoding, newline=newline) as text,
        ):
            yield text
    except UnicodeDecodeError as error:
        raise _not_unicode(path, error) from error
    except _DAMAGED as error:
        raise DataError(
            f"'{path}' is compressed, and damaged or cut short: {error}. Write or download it"
            " again."
        ) from error


def _not_unicode(path: Path, error: UnicodeDecodeError) -> DataError:
    """The error for bytes that are no text, with the line that holds the first of them."""
    if not error.encoding.startswith("utf-8"):
        return DataError(
            f"'{path}' begins like {error.encoding} and goes on otherwise: {error.reason}. Save the"
            " file as UTF-8."
        )
    with contextlib.suppress(*_DAMAGED), _open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as here:
                return DataError(
                    f"'{path}', line {number}: byte 0x{line[here.start]:02x} is not UTF-8. Save the"
                    " file as UTF-8; `iconv -f LATIN1 -t UTF-8` converts the usual other encoding."
                )
    return DataError(f"'{path}' is not UTF-8: {error.reason}. Save the file as UTF-8.")


class _RepeatedKey(Exception):
    """An object names a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedKey(next(name for name in names if names.count(name) > 1))
    return value


_UNIQUE = json.JSONDecoder(object_pairs_hook=_unique)


def _parse_json(text: str, where: str) -> Any:
    """The value of a JSON text.

    Raises:
        json.JSONDecodeError: it is none.
        DataError: it is one that cannot be used.
    """
    try:
        # `json.loads` has a word for a byte order mark, and makes a decoder at every call.
        value = json.loads(text) if text.startswith("\ufeff") else _UNIQUE.decode(text)
    except json.JSONDecodeError:
        raise
    except _RepeatedKey as error:
        raise DataError(
            f"{where}: the key '{error}' occurs twice in one object, and only one of the two could"
            " count. Remove one."
        ) from None
    except RecursionError:
        raise DataError(
            f"{where}: lists or objects are nested too deeply to be read. Mend or remove it."
        ) from None
    except ValueError as error:
        # What json.loads refuses without being a JSONDecodeError: numbers of thousands of digits.
        raise DataError(f"{where}: a number is too long: {error}. Put it in quotes.") from None
    if _ESCAPED_SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            code = ord(error.object[error.start])
            raise DataError(
                f"{where}: the text holds \\u{code:04x}, half of a character that UTF-16 writes in"
                " two, without the other half. It was cut in the middle: mend or remove the row."
            ) from None
    return value


def read_jsonl(path: Path, split: str, wanted: Sequence[str]) -> Iterator[Row]:
    """The rows of a JSON Lines file; of a JSON array too, whatever the file is called."""
    with _open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if number == 1 and line.startswith("["):
                yield from _array_rows(line + file.read(), path)
                return
            where = f"'{path}', line {number}"
            try:
                value = _parse_json(line, where)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{where}: not valid JSON: {error.msg} at column {error.colno}. {_advice(line)}"
                ) from error
            yield object_row(value, where)


def _advice(line: str) -> str:
    """What may be wrong with a line that is not JSON."""
    if re.match(r"\s*\{\s*'", line):
        return "JSON has texts in double quotes: write rows with `json.dumps`, not with `str`."
    if _SPARE_COMMA.search(line):
        return "A comma too many stands before a bracket. Remove it."
    if line.rstrip().endswith("},"):
        return "Rows of JSON Lines end without a comma. Remove it, or put all into one [list]."
    if line.strip() == "{":
        return "An object goes over several lines: write each on one line, or all in one [list]."
    return "Each line must hold one whole JSON object. Mend or remove the line."


def read_json(path: Path, split: str, wanted: Sequence[str]) -> Iterator[Row]:
    """The rows of a JSON file: a list, an object with lists by split, or JSON Lines after all."""
    with _open_text(path) as file:
        text = file.read()
    try:
        value = _parse_json(text, f"'{path}'")
    except json.JSONDecodeError as error:
        first = text.lstrip().partition("\n")[0]
        if error.msg == "Extra data" and first.rstrip().endswith("}"):
            yield from read_jsonl(path, split, wanted)
            return
        raise _bad_json(path, error) from error
    if isinstance(value, dict):
        value = value.get(split, value.get("data", value))
    yield from _list_rows(value, path)


def _array_rows(text: str, path: Path) -> Iterator[Row]:
    try:
        value = _parse_json(text, f"'{path}'")
    except json.JSONDecodeError as error:
        raise _bad_json(path, error) from error
    yield from _list_rows(value, path)


def _bad_json(path: Path, error: json.JSONDecodeError) -> DataError:
    around = error.doc[max(error.pos - 40, 0) : error.pos + 2]
    advice = "A comma too many stands before a bracket." if _SPARE_COMMA.search(around) else ""
    return DataError(
        f"'{path}', line {error.lineno}: not valid JSON: {error.msg} at column {error.colno}."
        f" {advice or 'Mend the file.'}"
    )


def _list_rows(value: Any, path: Path) -> Iterator[Row]:
    if not isinstance(value, list):
        if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
            raise DataError(
                f"'{path}' holds columns, not rows, as pandas writes them. Write rows:"
                ' frame.to_json(file, orient="records", lines=True).'
            )
        raise DataError(
            f"'{path}' must hold a list of objects, or an object with such a list under \"data\" or"
            " the name of a split. Convert it, or write one object a line to a .jsonl file."
        )
    for number, item in enumerate(value, start=1):
        yield object_row(item, f"'{path}', row {number}")


def read_csv(path: Path, split: str, wanted: Sequence[str]) -> Iterator[Row]:
    """The rows of a table with a header, parted by commas, semicolons, tabs or bars."""
    csv.field_size_limit(_LONGEST_CELL)
    header: list[str] = []
    line = 1
    with _open_text(path, newline="") as file:
        first = file.readline()
        reader = csv.reader(
            itertools.chain([first], file), delimiter=find_delimiter(first, wanted), strict=True
        )
        try:
            for cells in reader:
                # A quoted cell may hold line breaks; the row is named by the line it starts at.
                where, line = f"'{path}', line {line}", reader.line_num + 1
                if not cells:
                    continue
                if not header:
                    header = [name.strip() for name in cells]
                    check_columns_differ(header, where)
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{where}: {len(cells)} cells were found for {len(header)} columns. Quote"
                        " cells that hold line breaks or what parts the columns"
                        f" ({reader.dialect.delimiter!r})."
                    )
                yield Row(where, dict(zip(header, cells, strict=True)), header)
        except csv.Error as error:
            raise DataError(
                f"'{path}', line {line}: not valid CSV: {error}. Mend the quotes, or use a .jsonl"
                " file, which has no such limits."
            ) from error


def find_delimiter(header: str, wanted: Sequence[str]) -> str:
    """What parts the columns: that which finds the most known names, or else the most names.

    Args:
        header: the first line of the file.
        wanted: names of columns.
    """

    def fit(delimiter: str) -> tuple[int, int]:
        names = header.rstrip("\r\n").split(delimiter)
        return sum(name.strip().strip('"') in wanted for name in names), len(names)

    return max(_DELIMITERS, key=fit)
