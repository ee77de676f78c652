"""What a stored signal is found by: the example's id and its very tokens, never its position."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.data.lengths import count_response_tokens, count_tokens, flat, list_lengths

Keys = NDArray[np.uint64]

_ROWS_AT_ONCE = 1000


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
    digest.update((np.asarray(labels) != -100).tobytes())
    return int.from_bytes(digest.digest(), "little")


def describe_rows(rows: Any) -> tuple[Keys, NDArray[np.int64], NDArray[np.int64]]:
    """Key, number of tokens and number of predicted response tokens of each row.

    The state before a token predicts it, so a label at the very first token is not counted. A run
    asks for the same rows at every arm: what a data set says is found out once for a process.

    Args:
        rows: a data set with ``id``, ``input_ids`` and ``labels``.
    """
    content = getattr(rows, "_fingerprint", None)  # of its rows and all that was done to them
    if content is None:
        return _describe(rows)
    if content not in _described:
        while len(_described) >= _DESCRIBED_AT_ONCE:
            _described.pop(next(iter(_described)))
        _described[content] = _describe(rows)
    return _described[content]


_DESCRIBED_AT_ONCE = 16
_described: dict[str, tuple[Keys, NDArray[np.int64], NDArray[np.int64]]] = {}


def _describe(rows: Any) -> tuple[Keys, NDArray[np.int64], NDArray[np.int64]]:
    keys = np.zeros(len(rows), dtype=np.uint64)
    for number, (example_id, input_ids, labels) in enumerate(_each(rows)):
        keys[number] = row_key(example_id, input_ids, labels)
    return keys, count_tokens(rows), count_response_tokens(rows)


def _each(rows: Any) -> Iterator[tuple[str, NDArray[np.integer], NDArray[np.integer]]]:
    """Id, tokens and labels of each row, without a Python object for any token."""
    tables = rows.select_columns(["id", "input_ids", "labels"]).with_format("arrow")
    for table in tables.iter(_ROWS_AT_ONCE):
        ends = np.cumsum(list_lengths(table["input_ids"]))[:-1]
        lists = (np.split(flat(table[name])[0], ends) for name in ("input_ids", "labels"))
        yield from zip(table["id"].to_pylist(), *lists, strict=True)
