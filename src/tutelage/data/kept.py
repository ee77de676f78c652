"""Examples as the user's file gave them, kept beside their tokens: no file is read twice."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tutelage.files import disk_errors
from tutelage.types import Example, Message

_ROWS_AT_ONCE = 10_000
_SCHEMA = pa.schema([(name, pa.large_string()) for name in ("id", "example", "columns")])


@dataclass(frozen=True)
class KeptContent:
    """Hashes of what was kept, whatever the version of parquet.

    Attributes:
        examples: of all that an example says, and their order.
        columns: of their further columns and their ids.
    """

    examples: str
    columns: str


def write_examples(path: Path, examples: Iterable[Example]) -> KeptContent:
    """Write examples into a parquet file: for each its id, itself and its columns as JSON.

    Args:
        path: the file, in an existing folder.
        examples: in any order.
    """
    hashes = hashlib.sha256(), hashlib.sha256()
    rest = iter(examples)
    with (
        disk_errors(path),
        pq.ParquetWriter(path, _SCHEMA, compression="zstd", use_dictionary=False) as writer,
    ):
        while part := list(islice(rest, _ROWS_AT_ONCE)):
            ids = [example.id for example in part]
            texts = [_json(_said(example)) for example in part]
            columns = [_json(example.columns) for example in part]
            for example_id, text, column in zip(ids, texts, columns, strict=True):
                hashes[0].update(f"{text}\n".encode())
                hashes[1].update(f"{_json(example_id)} {column}\n".encode())
            arrays = [pa.array(values, pa.large_string()) for values in (ids, texts, columns)]
            writer.write_table(pa.table(arrays, schema=_SCHEMA))
    return KeptContent(*(digest.hexdigest() for digest in hashes))


def read_examples(path: Path) -> Iterator[Example]:
    """The examples that ``write_examples`` wrote, in their order, without their further columns.

    Values that JSON does not have (a date, say) come back as their text.
    """
    for text in _read(path, "example"):
        value = json.loads(text)
        value["messages"] = tuple(Message(**message) for message in value["messages"])
        for name in ("references", "tools"):
            value[name] = tuple(value[name])
        yield Example(**value)


def read_columns(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The ids and further columns of the examples that ``write_examples`` wrote, in their order."""
    for example_id, text in zip(_read(path, "id"), _read(path, "columns"), strict=True):
        yield example_id, json.loads(text)


def _read(path: Path, column: str) -> Iterator[str]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[column]):
            yield from batch.column(0).to_pylist()


def _said(example: Example) -> dict[str, Any]:
    """An example without its further columns, and as it was before its source could say more."""
    said = {**vars(example), "columns": {}}
    if example.system is None:
        del said["system"]
    return said


def _json(value: Any) -> str:
    # In ASCII, so that halves of surrogate pairs, which no file can hold, stay what they are.
    return _ENCODER.encode(value)


def _plain(value: Any) -> Any:
    """What JSON has no form for."""
    if isinstance(value, Message):
        return vars(value)
    return dict(value) if isinstance(value, Mapping) else str(value)


_ENCODER = json.JSONEncoder(default=_plain)
