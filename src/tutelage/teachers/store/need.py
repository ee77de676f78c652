"""What a store still needs, before any model is loaded: examples, tokens, disk."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import StoreError
from tutelage.files import nearest_folder
from tutelage.teachers.store.index import read_location
from tutelage.teachers.store.keys import Keys, describe_rows
from tutelage.teachers.store.read import Folders, folders_of
from tutelage.teachers.store.shards import whole_shards
from tutelage.teachers.store.spec import DTYPES, MANIFEST, StoreSpec
from tutelage.teachers.store.topk import bytes_per_token

ROOM = 1.02
"""How much more than a store takes must be free."""


@dataclass(frozen=True)
class Need:
    """What a store still needs.

    Attributes:
        examples: examples that are not stored yet.
        tokens: all their tokens, which the teacher reads.
        response_tokens: their response tokens, which are stored.
        bytes: disk that they and, when it is not there yet, the head will take.
        stored_examples: asked examples that are stored already.
    """

    examples: int
    tokens: int
    response_tokens: int
    bytes: int
    stored_examples: int


def token_bytes(spec: StoreSpec, hidden_size: int) -> int:
    """What is stored of one response token, in bytes."""
    if spec.kind == "topk":
        assert spec.top_k is not None
        return bytes_per_token(spec.top_k, spec.vocab_size) + 4  # and the data's own token
    return hidden_size * DTYPES[spec.dtype].itemsize


def store_bytes(
    spec: StoreSpec, hidden_size: int, tokens: int, examples: int, *, with_head: bool = True
) -> int:
    """What a store takes on a disk.

    Args:
        spec: what it holds.
        hidden_size: width of the teacher.
        tokens: response tokens of all examples.
        examples: how many there are.
        with_head: its output head too, where it needs one.
    """
    # A key and a length for each example; the files' own headers are a few hundred bytes each.
    size = tokens * token_bytes(spec, hidden_size) + 16 * examples
    if spec.kind == "hidden" and with_head:
        size += (hidden_size + 1) * spec.vocab_size * DTYPES[spec.dtype].itemsize
    return size


def store_need(store: Folders, spec: StoreSpec, hidden_size: int, rows: Any) -> Need:
    """What would have to be computed and written, before any model is loaded.

    Args:
        store: its folder, there or not; of several the first is filled.
        spec: what it holds.
        hidden_size: width of the teacher.
        rows: a data set with ``id``, ``input_ids`` and ``labels``.
    """
    asked = Asked.of(rows)
    folders = folders_of(store)
    present = present_in(folders, asked.keys)
    missing = ~present
    tokens = int(asked.responses[missing].sum())
    begun = (folders[0] / MANIFEST).is_file()
    return Need(
        examples=int(missing.sum()),
        tokens=int(asked.lengths[missing].sum()),
        response_tokens=tokens,
        bytes=store_bytes(spec, hidden_size, tokens, int(missing.sum()), with_head=not begun),
        stored_examples=int(present.sum()),
    )


@dataclass(frozen=True)
class Asked:
    """The rows that a store must cover, each once.

    Attributes:
        keys: sorted.
        lengths: all their tokens.
        responses: their response tokens.
        row: where each is among the rows.
    """

    keys: Keys
    lengths: NDArray[np.int64]
    responses: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Any) -> "Asked":
        """What is asked of a store by a data set, whose rows may repeat."""
        found = describe_rows(rows)
        unique, first = np.unique(found["key"], return_index=True)
        lengths, responses = (found[name][first].astype(np.int64) for name in _COUNTED)
        return cls(unique, lengths, responses, first)


_COUNTED = ("tokens", "responses")


def present_in(folders: Sequence[Path], keys: Keys) -> NDArray[np.bool_]:
    """Which examples some folder of a store has."""
    begun = [folder for folder in folders if (folder / MANIFEST).is_file()]
    return read_location([path for one in begun for path in whole_shards(one)]).find(keys) >= 0


def free_bytes(folder: str | Path) -> int:
    """What is free on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(nearest_folder(folder)).free


def check_space(folder: str | Path, need: Need) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        StoreError: less is free than is needed.
    """
    free = free_bytes(folder)
    if free < need.bytes * ROOM:
        raise StoreError(
            f"The teacher store '{folder}' needs {need.bytes / 1e6:,.0f} MB of disk and"
            f" {free / 1e6:,.0f} MB are free. Free some space, choose another disk with"
            " teacher.store: FOLDER, keep the likeliest tokens alone (teacher.signal: topk), or let"
            " the teacher run beside the student (teacher.signal: live)."
        )
