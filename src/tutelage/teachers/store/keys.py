"""What a stored signal is found by: the example's id and its very tokens, never its position."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from tutelage.data.collate import IGNORED
from tutelage.data.lengths import flat, list_lengths

Keys = NDArray[np.uint64]

KEYS = "keys.npy"
"""Beside saved rows: what :func:`describe_rows` finds of them."""

COLUMNS = ["id", "input_ids", "labels"]

Description = np.dtype([("key", "<u8"), ("tokens", "<i4"), ("responses", "<i4")])
"""Of a row: its key, its tokens, and its response tokens that something predicts."""

_ROWS_AT_ONCE = 10_000
_LOOKED_AT = 8


def row_key(
    example_id: str,
    input_ids: Sequence[int] | NDArray[np.integer],
    labels: Sequence[int] | NDArray[np.integer],
) -> int:
    """A 64-bit number for an example: its id, its tokens and which of them are learned.

    Two of ten million examples share a number with a probability of three in a million. A change of
    template, tokenizer, length limit or answer changes the tokens and so the number: what was
    stored for the older text is then not found, instead of being used for the wrong one.

    Args:
        example_id: the example's id.
        input_ids: tokens of prompt and answer.
        labels: -100 where a token is not learned; the same length.
    """
    digest = hashlib.blake2b(example_id.encode("utf-8"), digest_size=8)
    digest.update(np.asarray(input_ids, dtype=np.int32).tobytes())
    digest.update((np.asarray(labels) != IGNORED).tobytes())
    return int.from_bytes(digest.digest(), "little")


def describe_rows(rows: Any) -> NDArray[np.void]:
    """Key, tokens and predicted response tokens of each row, an array of type ``Description``.

    The state before a token predicts it, so a label at the very first token is not counted. Rows
    are hashed once: what is known of a data set is kept for the process, and :func:`save_keys` puts
    it beside rows on a disk, where other processes and later runs find it. A data set that anything
    was done to is another one.

    Args:
        rows: a data set with ``id``, ``input_ids`` and ``labels``.
    """
    rows = _columns_of(rows)
    content = getattr(rows, "_fingerprint", None)  # of its rows and all that was done to them
    if content is None:
        return _describe(rows)
    if content not in _described:
        found = _beside(rows)
        _remember(content, [_describe(rows) if found is None else found])
    parts = _described[content]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def join_rows(parts: Sequence[Any]) -> Any:
    """Data sets one after another; what is known of each is known of them together."""
    parts = [_columns_of(part) for part in parts]
    joined = datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]
    if len(parts) > 1:
        _remember(joined._fingerprint, [describe_rows(part) for part in parts])
    return joined


def save_keys(folder: str | Path) -> None:
    """Put the keys of rows beside them.

    Args:
        folder: rows that ``save_to_disk`` wrote.
    """
    rows = datasets.load_from_disk(str(folder))
    np.save(Path(folder) / KEYS, _describe(_columns_of(rows)))


_ROWS_REMEMBERED = 1 << 24
_described: dict[str, list[NDArray[np.void]]] = {}


def _remember(content: str, parts: list[NDArray[np.void]]) -> None:
    """Keep what is known of a data set, in place of the oldest where that becomes much."""
    _described[content] = parts
    while len(_described) > 1 and sum(map(_size, _described.values())) > _ROWS_REMEMBERED:
        _described.pop(next(iter(_described)))


def _size(parts: list[NDArray[np.void]]) -> int:
    """Rows that take memory of this process: what is mapped from a file takes none."""
    return sum(len(part) for part in parts if not isinstance(part, np.memmap))


def _columns_of(rows: Any) -> Any:
    """Rows with the columns that count alone: other ones make no other data set."""
    return rows if rows.column_names == COLUMNS else rows.select_columns(COLUMNS)


def _beside(rows: Any) -> NDArray[np.void] | None:
    """What was put beside rows that are all that a folder has; None when nothing fits."""
    folders = {Path(file["filename"]).parent for file in rows.cache_files}
    path = next(iter(folders), Path()) / KEYS
    if len(folders) != 1 or not path.is_file():
        return None
    whole = _columns_of(datasets.load_from_disk(str(path.parent)))
    if whole._fingerprint != rows._fingerprint:  # some of the rows, or rows that were changed
        return None
    try:
        found = np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return None
    if found.dtype != Description or found.shape != (len(rows),):
        return None
    # Files may have been put together by hand: a few rows tell.
    some = np.unique(np.linspace(0, max(len(rows) - 1, 0), _LOOKED_AT, dtype=np.int64))
    fits = not len(rows) or (_describe(rows.select(some)) == found[some]).all()
    return found if fits else None


def _describe(rows: Any) -> NDArray[np.void]:
    found = np.empty(len(rows), dtype=Description)
    start = 0
    for table in rows.with_format("arrow").iter(_ROWS_AT_ONCE):
        part = found[start : start + len(table)]
        start += len(table)
        part["tokens"] = list_lengths(table["input_ids"])
        labels, row_N = flat(table["labels"])
        learned = labels != IGNORED
        # The first token of a row is predicted by nothing.
        counts = learned & np.concatenate([[False], row_N[1:] == row_N[:-1]])
        part["responses"] = np.bincount(row_N[counts], minlength=len(part))
        tokens = flat(table["input_ids"])[0].astype(np.int32, copy=False)
        ends = np.cumsum(part["tokens"], dtype=np.int64)
        hashed = b"".join(_hashes(table["id"].to_pylist(), tokens, learned, ends.tolist()))
        part["key"] = np.frombuffer(hashed, dtype="<u8")
    return found


def _hashes(
    ids: Sequence[str], tokens: NDArray[np.int32], learned: NDArray[np.bool_], ends: Sequence[int]
) -> Iterator[bytes]:
    """What :func:`row_key` makes a number of, for rows whose tokens follow one another."""
    words, marks = tokens.data.cast("B"), learned.view(np.uint8).data
    start = 0
    for example_id, end in zip(ids, ends, strict=True):
        digest = hashlib.blake2b(example_id.encode("utf-8"), digest_size=8)
        digest.update(words[4 * start : 4 * end])
        digest.update(marks[start:end])
        yield digest.digest()
        start = end
