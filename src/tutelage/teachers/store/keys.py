"""What a stored signal is found by: the example's id and its very tokens, never its position."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_ROWS_AT_ONCE = 1000


def row_key(example_id: str, input_ids: Sequence[int], labels: Sequence[int]) -> int:
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
    lengths = np.zeros(len(rows), dtype=np.int64)
    responses = np.zeros(len(rows), dtype=np.int64)
    for number, (example_id, input_ids, labels) in enumerate(_each(rows)):
        keys[number] = row_key(example_id, input_ids, labels)
        lengths[number] = len(input_ids)
        responses[number] = np.count_nonzero(np.asarray(labels[1:]) != -100)
    return keys, lengths, responses


def _each(rows: Any) -> Iterator[tuple[str, Sequence[int], Sequence[int]]]:
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        yield from zip(part["id"], part["input_ids"], part["labels"], strict=True)
