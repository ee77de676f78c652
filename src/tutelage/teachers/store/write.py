"""Filling a store: one pass of the teacher over the examples that it lacks."""

import dataclasses
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutelage.data.collate import collate, length_batches
from tutelage.errors import StoreError
from tutelage.files import TEMPORARY_PREFIX, nearest_folder, remove_leftovers
from tutelage.models.head import batch_hidden, head_logits
from tutelage.models.packing import packing
from tutelage.teachers.store.head import FILE as HEAD
from tutelage.teachers.store.head import head_content, take_head, write_head
from tutelage.teachers.store.keys import Keys, describe_rows
from tutelage.teachers.store.shards import read_location, whole_shards, write_shard
from tutelage.teachers.store.spec import (
    HIDDEN,
    MANIFEST,
    TARGET,
    TOP_K,
    StoreSpec,
    check_spec,
    read_manifest,
    write_manifest,
)
from tutelage.teachers.store.topk import bytes_per_token, encode_top_k

# Shape suffixes: N response tokens, n tokens of a tile, H hidden, V vocabulary.

SHARDS_WANTED = 64
"""A pass is cut into about so many shards: a killed pass loses one of them at most."""

SMALLEST_SHARD, LARGEST_SHARD = 1 << 20, 1 << 28
"""Bytes of a shard, whatever the number of shards."""

TILE_TOKENS = 512
"""Tokens whose logits are in memory at once, when the likeliest are picked."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

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


def store_need(folder: str | Path, spec: StoreSpec, hidden_size: int, rows: Any) -> Need:
    """What would have to be computed and written, before any model is loaded.

    Args:
        folder: the store, there or not.
        spec: what it holds.
        hidden_size: width of the teacher.
        rows: a data set with ``id``, ``input_ids`` and ``labels``.
    """
    asked = _Asked.of(rows)
    present = _present(Path(folder), asked.keys)
    missing = ~present
    tokens = int(asked.responses[missing].sum())
    begun = (Path(folder) / MANIFEST).is_file()
    return Need(
        examples=int(missing.sum()),
        tokens=int(asked.lengths[missing].sum()),
        response_tokens=tokens,
        bytes=store_bytes(spec, hidden_size, tokens, int(missing.sum()), with_head=not begun),
        stored_examples=int(present.sum()),
    )


@dataclass(frozen=True)
class _Asked:
    """The rows that a store must cover, each once."""

    keys: Keys
    lengths: NDArray[np.int64]
    responses: NDArray[np.int64]
    row: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Any) -> "_Asked":
        keys, lengths, responses = describe_rows(rows)
        unique, first = np.unique(keys, return_index=True)
        return cls(unique, lengths[first], responses[first], first)


def _present(folder: Path, keys: Keys) -> NDArray[np.bool_]:
    if not (folder / MANIFEST).is_file():
        return np.zeros(len(keys), dtype=bool)
    return read_location(whole_shards(folder)).find(keys) >= 0


def begin_store(folder: str | Path, spec: StoreSpec, model: nn.Module, **details: Any) -> None:
    """Write the manifest and the head of a new store; a store that is there must be the same.

    Args:
        folder: the store.
        spec: what it holds.
        model: the teacher.
        details: further facts for whoever reads the manifest; nothing depends on them.

    Raises:
        StoreError: the folder holds another store, or something else.
    """
    folder = Path(folder)
    remove_leftovers(folder, alone=False)
    if (folder / MANIFEST).is_file():
        check_spec(folder, read_manifest(folder), spec)
        return
    # A killed process may have left the head, which comes before the manifest: it is written again.
    others = [p for p in folder.glob("*") if p.name != HEAD and not _is_temporary(p)]
    if others:
        raise StoreError(
            f"'{folder}' is not empty and is no teacher store (it has '{others[0].name}' and no"
            f" {MANIFEST}). Name another folder, or an empty one."
        )
    head = take_head(model, spec.vocab_size, DTYPES[spec.dtype])
    content = head_content(head) if spec.kind == "hidden" else b""
    if content:
        write_head(folder, content)
    write_manifest(
        folder,
        spec,
        hidden_size=head.weight.shape[1],
        transform=dataclasses.asdict(head.transform),
        head_crc32=zlib.crc32(content),
        **details,
    )


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(TEMPORARY_PREFIX)


def fill_store(
    folder: str | Path,
    spec: StoreSpec,
    model: nn.Module,
    rows: Any,
    *,
    pad_token_id: int = 0,
    batch_tokens: int = 8192,
    autocast_dtype: torch.dtype | None = None,
    process: int = 0,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Store the teacher's signal for every row that lacks it; :func:`begin_store` comes first.

    Rows are cut into shards that depend on the rows alone. A pass that was killed goes on with the
    shards that are not whole, and ends with the same numbers, bit for bit, as one that was not.

    Args:
        folder: the store.
        spec: what it holds.
        model: the teacher; it is put in evaluation mode for the time.
        rows: a data set with ``id``, ``input_ids`` and ``labels``; rows may repeat.
        pad_token_id: fills the batches; it is masked out.
        batch_tokens: tokens of a batch.
        autocast_dtype: type of the teacher's matrix products; None for its own.
        process: number of this process.
        processes: how many share the work; each writes shards of its own.
        progress: called with (tokens done, tokens in all) of this process.

    Raises:
        RunFolderError: the disk is full; whole shards stay.
    """
    folder = Path(folder)
    asked = _Asked.of(rows)
    present = _present(folder, asked.keys)
    width = token_bytes(spec, read_manifest(folder)["hidden_size"])
    # Shards are dealt out by their number among all, whatever other processes have finished by now.
    cut = _shards(asked, batch_tokens, width)[process::processes]
    shards = [left for shard in cut if (left := _missing(shard, present))]
    total = sum(int(asked.lengths[batch].sum()) for shard in shards for batch in shard)
    done = 0
    was_training = model.training
    model.eval()
    try:
        with packing(model, longest=int(asked.lengths.max(initial=0))) as packed:
            for shard in shards:
                parts = []
                for batch in shard:
                    inputs = collate(list(rows.select(asked.row[batch])), pad_token_id)
                    parts.append(_signal(model, inputs, spec, autocast_dtype, packed))
                    done += int(asked.lengths[batch].sum())
                    if progress is not None:
                        progress(done, total)
                members = np.concatenate(shard)
                arrays = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
                write_shard(folder, asked.keys[members], asked.responses[members], arrays)
    finally:
        model.train(was_training)


def _shards(asked: _Asked, batch_tokens: int, width: int) -> list[list[NDArray[np.int64]]]:
    """Batches of positions in ``asked``, by shard; the same whether or not some are there."""
    size = int(asked.responses.sum()) * width / SHARDS_WANTED
    limit = min(max(size, SMALLEST_SHARD), LARGEST_SHARD)
    shards: list[list[NDArray[np.int64]]] = [[]]
    filled = 0
    for batch in length_batches(asked.lengths.tolist(), max_tokens=batch_tokens):
        if filled >= limit:
            shards.append([])
            filled = 0
        shards[-1].append(np.asarray(batch))
        filled += int(asked.responses[batch].sum()) * width
    return shards


def _missing(
    shard: Sequence[NDArray[np.int64]], present: NDArray[np.bool_]
) -> list[NDArray[np.int64]]:
    left = [batch[~present[batch]] for batch in shard]
    return [batch for batch in left if len(batch)]


@torch.no_grad()
def _signal(
    model: nn.Module,
    inputs: dict[str, Tensor],
    spec: StoreSpec,
    autocast_dtype: torch.dtype | None,
    packed: bool,
) -> dict[str, Tensor]:
    """What is stored of a batch, on the CPU."""
    device = next(model.parameters()).device
    with torch.autocast(device.type, autocast_dtype, enabled=autocast_dtype is not None):
        hidden_NH, targets_N = batch_hidden(model, inputs, packed=packed)
        if spec.kind == "hidden":
            return {HIDDEN: hidden_NH.to("cpu", DTYPES[spec.dtype])}
        assert spec.top_k is not None
        tiles = []
        for start in range(0, max(len(hidden_NH), 1), TILE_TOKENS):
            tile = slice(start, start + TILE_TOKENS)
            logp_nV = head_logits(model, hidden_NH[tile], spec.vocab_size).log_softmax(-1)
            target_n = logp_nV.gather(-1, targets_N[tile].unsqueeze(-1)).squeeze(-1)
            tiles.append((encode_top_k(logp_nV, spec.top_k), target_n.float().cpu()))
    stored, targets = zip(*tiles, strict=True)
    return {TOP_K: torch.cat(stored), TARGET: torch.cat(targets)}


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
