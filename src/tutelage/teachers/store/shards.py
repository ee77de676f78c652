"""Shards: files of tensors with the signal of some examples, whole or not at all.

A shard is a safetensors file, written under a temporary name and renamed. Beside it lies a small
JSON file with its checksum, written last: without that the shard does not count.
"""

import contextlib
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tutelage.errors import StoreError
from tutelage.files import atomic_write_bytes, atomic_write_json, read_json
from tutelage.proofs import file_crc32
from tutelage.teachers.store.keys import Keys

KEYS, TOKENS = "keys", "tokens"
"""Tensors of a shard that say whose signal it holds: one number for each example."""


@dataclass(frozen=True)
class Location:
    """Where the signals of examples are.

    Attributes:
        keys: sorted, shape ``[E]``.
        shard: number of the shard, shape ``[E]``.
        start: first token in the shard, shape ``[E]``.
        tokens: response tokens, shape ``[E]``.
    """

    keys: Keys
    shard: NDArray[np.int32]
    start: NDArray[np.int64]
    tokens: NDArray[np.int64]

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Position of each key; -1 for those that are not stored."""
        if not len(self.keys):
            return np.full(len(keys), -1, dtype=np.int64)
        position = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where(self.keys[position] == keys, position, -1)


def shard_name(keys: Keys) -> str:
    """The name of the shard that holds exactly these examples in this order."""
    return f"shard-{hashlib.blake2b(keys.tobytes(), digest_size=8).hexdigest()}"


def write_shard(
    folder: Path, keys: Keys, tokens: NDArray[np.int64], arrays: Mapping[str, Tensor]
) -> None:
    """Write a shard and, after it, its checksum.

    Args:
        folder: the store.
        keys: of its examples.
        tokens: response tokens of each.
        arrays: tensors with one row for each response token, in the order of the examples.
    """
    assert all(len(array) == tokens.sum() for array in arrays.values())
    content = save(
        {
            KEYS: torch.from_numpy(keys.view(np.int64)),
            TOKENS: torch.from_numpy(tokens),
            **{name: array.contiguous() for name, array in arrays.items()},
        }
    )
    path = folder / f"{shard_name(keys)}.safetensors"
    atomic_write_bytes(path, content)
    record = {
        "crc32": zlib.crc32(content),
        "bytes": len(content),
        "examples": len(keys),
        "tokens": int(tokens.sum()),
    }
    atomic_write_json(path.with_suffix(".json"), record)


def whole_shards(folder: Path) -> list[Path]:
    """The shards that are complete, in a fixed order."""
    return [
        path
        for path in sorted(folder.glob("shard-*.safetensors"))
        if path.with_suffix(".json").is_file()
    ]


def verify(paths: Sequence[Path]) -> None:
    """Compare every shard with its checksum.

    Raises:
        StoreError: a shard was changed or damaged since it was written.
    """
    with ThreadPoolExecutor() as pool:
        for path, damaged in zip(paths, pool.map(_is_damaged, paths), strict=True):
            if damaged:
                examples = read_json(path.with_suffix(".json"))["examples"]
                raise StoreError(
                    f"'{path}' was changed or damaged after it was written: its content does not"
                    f" match its checksum. Delete it and give the same command again; only its"
                    f" {examples:,} examples are computed anew."
                )


def _is_damaged(path: Path) -> bool:
    record = read_json(path.with_suffix(".json"))
    if path.stat().st_size != record["bytes"]:
        return True
    return file_crc32(path) != record["crc32"]


def read_location(paths: Sequence[Path]) -> Location:
    """Where everything in some shards is; an example that is in two is taken from the first."""
    parts: list[tuple[Keys, NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]] = []
    for number, path in enumerate(paths):
        with opened(path) as file:
            keys = file.get_tensor(KEYS).numpy().view(np.uint64)
            tokens = file.get_tensor(TOKENS).numpy()
        starts = np.concatenate([[0], np.cumsum(tokens)[:-1]]).astype(np.int64)
        parts.append((keys, np.full(len(keys), number, dtype=np.int32), starts, tokens))
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        return Location(empty.astype(np.uint64), empty.astype(np.int32), empty, empty)
    keys, shard, start, tokens = (np.concatenate(column) for column in zip(*parts, strict=True))
    unique, first = np.unique(keys, return_index=True)
    return Location(unique, shard[first], start[first], tokens[first])


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A shard, open for reading; what is read is mapped into memory, not copied.

    Raises:
        StoreError: the file is no shard.
    """
    try:
        file = safe_open(str(path), framework="pt", device="cpu")
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"'{path}' cannot be read ({error}). Delete it and give the same command again; its"
            " examples are computed anew."
        ) from error
    with file as handle:
        yield handle


def load_arrays(path: Path) -> dict[str, Tensor]:
    """All tensors of a shard but its keys, mapped into memory: pages are read when used."""
    with opened(path) as file:
        names = [name for name in file.keys() if name not in (KEYS, TOKENS)]  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names}
