"""Filling a store: one pass of the teacher over the examples that it lacks."""

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutelage.data.collate import collate, length_batches
from tutelage.errors import StoreError
from tutelage.files import TEMPORARY_PREFIX, remove_leftovers
from tutelage.models.head import batch_hidden, head_logits
from tutelage.models.packing import packing
from tutelage.teachers.store.claims import CLAIMS, beginning, filling, has_locks, shards_to_make
from tutelage.teachers.store.head import FILE as HEAD
from tutelage.teachers.store.head import head_content, take_head, write_head
from tutelage.teachers.store.need import Asked, present_in, token_bytes
from tutelage.teachers.store.read import Folders, folders_of
from tutelage.teachers.store.shards import shard_name, write_shard
from tutelage.teachers.store.spec import (
    DTYPES,
    HIDDEN,
    MANIFEST,
    TARGET,
    TOP_K,
    StoreSpec,
    check_spec,
    read_manifest,
    write_manifest,
)
from tutelage.teachers.store.topk import encode_top_k

# Shape suffixes: N response tokens, n tokens of a tile, H hidden, V vocabulary.

SHARDS_WANTED = 64
"""A pass is cut into about so many shards: a killed pass loses one of them at most."""

SMALLEST_SHARD, LARGEST_SHARD = 1 << 20, 1 << 28
"""Bytes of a shard, whatever the number of shards."""

TILE_TOKENS = 512
"""Tokens whose logits are in memory at once, when the likeliest are picked."""


def begin_store(store: Folders, spec: StoreSpec, model: nn.Module, **details: Any) -> None:
    """Write the manifest and the head of a new store; a store that is there must be the same.

    Args:
        store: its folder; of several the first.
        spec: what it holds.
        model: the teacher.
        details: further facts for whoever reads the manifest; nothing depends on them.

    Raises:
        StoreError: the folder holds another store, or something else.
    """
    folder = folders_of(store)[0]
    with beginning(folder):
        _begin(folder, spec, model, details)


def _begin(folder: Path, spec: StoreSpec, model: nn.Module, details: dict[str, Any]) -> None:
    remove_leftovers(folder, alone=False)
    if (folder / MANIFEST).is_file():
        check_spec(folder, read_manifest(folder), spec)
        return
    # A killed process may have left the head, which comes before the manifest: it is written again.
    others = [p for p in folder.glob("*") if p.name not in (HEAD, CLAIMS) and not _is_temporary(p)]
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
    store: Folders,
    spec: StoreSpec,
    model: nn.Module,
    rows: Any,
    *,
    pad_token_id: int = 0,
    batch_tokens: int = 8192,
    autocast_dtype: torch.dtype | None = None,
    process: int = 0,
    processes: int = 1,
    part: tuple[int, int] = (0, 1),
    by_first: Callable[..., Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
    tell: Callable[[str], Any] | None = None,
    made: Callable[[str], Any] | None = None,
) -> None:
    """Store the teacher's signal for every row that lacks it; :func:`begin_store` comes first.

    Rows are cut into shards that depend on the rows alone. A pass that was killed goes on with the
    shards that are not whole, and ends with the same numbers, bit for bit, as one that was not.

    Any number of workers may call this for the same folder and rows at the same time, on one
    machine or on several that see the folder: each claims the shards that it makes, and all return
    when every shard is there. Of a worker that is lost the others make the shard that it was at.
    Where the disk has no locks, each of ``processes`` makes its share alone.

    A model that is cut over the processes is run by all of them at once: whoever has made its share
    runs one row more for each batch that another one still has.

    Args:
        store: its folder; of several the first is filled with what none of them has.
        spec: what it holds.
        model: the teacher; it is put in evaluation mode for the time.
        rows: a data set with ``id``, ``input_ids`` and ``labels``; rows may repeat.
        pad_token_id: fills the batches; it is masked out.
        batch_tokens: tokens of a batch.
        autocast_dtype: type of the teacher's matrix products; None for its own.
        process: number of this process among those that were started together.
        processes: how many they are; each begins with other shards.
        part: number of a part (from 0) and how many there are: of the shards only those of one
            part are made, for machines that share no folder.
        by_first: for a model that is cut over ``processes``, or folders that only some of them
            see: calls a function in the first of them and gives all what it returned. All must call
            this with the same rows.
        progress: called with (tokens done, tokens in all).
        tell: called with a line when somebody is waited for.
        made: called with the name of each shard that this worker has made, once it is whole.

    Raises:
        RunFolderError: the disk is full; whole shards stay.
    """
    folders = folders_of(store)
    folder, asked = folders[0], Asked.of(rows)
    work = _Pass(folder, spec, model, rows, asked, pad_token_id, autocast_dtype, made)
    cut = _shards(asked, batch_tokens, token_bytes(spec, read_manifest(folder)["hidden_size"]))
    cut = cut[part[0] :: part[1]]
    if by_first is not None:
        # What is there is looked for once: the shares must fit together.
        shards = _left(cut, by_first(present_in, folders, asked.keys))
        shares = [shards[number::processes] for number in range(processes)]
        passes = [sum(map(len, share)) for share in shares]
        mine, more = shares[process], max(passes) - passes[process]
        work.make(mine, ((number, True) for number in range(len(mine))), progress, more)
        return
    if not has_locks(folder):
        # Dealt out by their number among all, whatever other processes have finished by now.
        shards = _left(cut[process::processes], present_in(folders, asked.keys))
        work.make(shards, ((number, True) for number in range(len(shards))), progress)
        return
    with filling(folder, f"{shard_name(asked.keys)} {batch_tokens}", tell):
        shards = _left(cut, present_in(folders, asked.keys))
        names = [shard_name(asked.keys[np.concatenate(shard)]) for shard in shards]
        first = len(shards) * process // processes
        work.make(shards, shards_to_make(folder, names, first), progress)


@dataclass(frozen=True)
class _Pass:
    """One pass of a teacher over the rows that a store lacks; see ``fill_store``."""

    folder: Path
    spec: StoreSpec
    model: nn.Module
    rows: Any
    asked: Asked
    pad_token_id: int
    autocast_dtype: torch.dtype | None
    made: Callable[[str], Any] | None

    def make(
        self,
        shards: Sequence[Sequence[NDArray[np.int64]]],
        numbers: Iterable[tuple[int, bool]],
        progress: Callable[[int, int], None] | None,
        more: int = 0,
    ) -> None:
        """Make shards.

        Args:
            shards: batches of positions in ``asked``, by shard.
            numbers: of the shards as they come, and whether each is to be made here.
            progress: called with (tokens done, tokens in all).
            more: so often the model is run once more at the end, for those who have other parts of
                it.
        """
        lengths = self.asked.lengths
        sizes = [sum(int(lengths[batch].sum()) for batch in shard) for shard in shards]
        done = 0

        def say(tokens: int) -> None:
            nonlocal done
            done += tokens
            if progress is not None:
                progress(done, sum(sizes))

        was_training = self.model.training
        self.model.eval()
        try:
            with packing(self.model, longest=int(lengths.max(initial=0))) as packed:
                for number, here in numbers:
                    if here:
                        self._write(shards[number], packed, say)
                    else:
                        say(sizes[number])
                shortest = np.argsort(lengths)[:1]
                for _ in range(more):
                    self._run(shortest, packed)
        finally:
            self.model.train(was_training)

    def _write(
        self, shard: Sequence[NDArray[np.int64]], packed: bool, say: Callable[[int], None]
    ) -> None:
        parts, asked = [], self.asked
        for batch in shard:
            parts.append(self._run(batch, packed))
            say(int(asked.lengths[batch].sum()))
        members = np.concatenate(shard)
        arrays = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        write_shard(self.folder, asked.keys[members], asked.responses[members], arrays)
        if self.made is not None:
            self.made(shard_name(asked.keys[members]))

    def _run(self, batch: NDArray[np.int64], packed: bool) -> dict[str, Tensor]:
        inputs = collate(list(self.rows.select(self.asked.row[batch])), self.pad_token_id)
        return _signal(self.model, inputs, self.spec, self.autocast_dtype, packed)


def _shards(asked: Asked, batch_tokens: int, width: int) -> list[list[NDArray[np.int64]]]:
    """Batches of positions in ``asked``, by shard; the same whether or not some are there."""
    size = int(asked.responses.sum()) * width / SHARDS_WANTED
    limit = min(max(size, SMALLEST_SHARD), LARGEST_SHARD)
    shards: list[list[NDArray[np.int64]]] = [[]]
    filled = 0
    for batch in length_batches(asked.lengths, max_tokens=batch_tokens):
        if filled >= limit:
            shards.append([])
            filled = 0
        shards[-1].append(np.asarray(batch))
        filled += int(asked.responses[batch].sum()) * width
    return shards


def _left(
    shards: Sequence[Sequence[NDArray[np.int64]]], present: NDArray[np.bool_]
) -> list[list[NDArray[np.int64]]]:
    """What of the shards is not there; a shard of which nothing is left is none."""
    left = [[part for batch in one if len(part := batch[~present[batch]])] for one in shards]
    return [one for one in left if one]


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
