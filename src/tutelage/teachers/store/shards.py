"""Shards: files of tensors with the signal of some examples, whole or not at all.

A shard is a safetensors file, written under a temporary name and renamed. Beside it lies a small
JSON file with its checksum, written last: without that the shard does not count.
"""

import contextlib
import hashlib
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tutelage.errors import StoreError
from tutelage.files import atomic_write_bytes, atomic_write_json, read_json_or
from tutelage.proofs import file_crc32
from tutelage.teachers.store.keys import Keys

KEYS, TOKENS = "keys", "tokens"
"""Tensors of a shard that say whose signal it holds: one number for each example."""


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


def is_whole(folder: Path, name: str) -> bool:
    """Whether a shard is there, with its checksum."""
    return all((folder / f"{name}.{ending}").is_file() for ending in ("json", "safetensors"))


def whole_shards(folder: Path) -> list[Path]:
    """The shards that are complete, in a fixed order."""
    paths = sorted(folder.glob("shard-*.safetensors"))
    return [path for path in paths if is_whole(folder, path.stem)]


Stamp = tuple[int, int, int]
"""Size, time of change and number of a file: while they stay, it is taken to be the same."""


def verify(paths: Sequence[Path], known: Collection[Stamp] = ()) -> list[Stamp]:
    """Compare shards with their checksums.

    Args:
        paths: the shards.
        known: what was verified just now, here or by another process that sees the same files.

    Returns:
        What is verified now: a stamp of each shard.

    Raises:
        StoreError: a shard was changed or damaged since it was written.
    """
    stamps = [_stamp(path) for path in paths]
    unknown = [path for path, stamp in zip(paths, stamps, strict=True) if stamp not in known]
    with ThreadPoolExecutor() as pool:
        for path, damaged in zip(unknown, pool.map(_is_damaged, unknown), strict=True):
            if damaged:
                raise StoreError(
                    f"'{path}' was changed or damaged after it was written, or its checksum beside"
                    f" it was ('{path.stem}.json'): they do not match. Delete it and give the same"
                    " command again; only its examples are computed anew."
                )
    return stamps


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _is_damaged(path: Path) -> bool:
    record = read_json_or(path.with_suffix(".json"), {})
    if path.stat().st_size != record.get("bytes"):
        return True
    return file_crc32(path) != record.get("crc32")


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
