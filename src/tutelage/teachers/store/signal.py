"""A stored teacher in training: no more of it is in memory than its output head."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.devices import sent
from tutelage.models.projection import LinearProjection
from tutelage.teachers.live import LogitTile
from tutelage.teachers.store.ahead import ReadAhead
from tutelage.teachers.store.index import Places
from tutelage.teachers.store.keys import describe_rows, row_key
from tutelage.teachers.store.read import TeacherStore
from tutelage.teachers.store.spec import HIDDEN, TARGET, TOP_K
from tutelage.teachers.store.topk import TopK, decode_top_k

# Shape suffixes: B batch, T tokens, N response tokens, n tokens of a tile, r tokens of a block,
# H hidden, V vocabulary, K kept tokens.


class StoredTeacher:
    """A ``TeacherSignal`` that is read from a store.

    With hidden states, loss and gradients are those of the live teacher up to rounding, for every
    divergence, target and temperature. With the likeliest tokens, teacher and student are compared
    over k + 1 outcomes; what happens inside the tail is lost, so an f-divergence comes out at most
    as large as the exact one, and never negative.

    Args:
        store: an open store.
        rows: the rows that will be asked for; all of them must be stored. None looks each row up
            when it is asked for.
        device: where the head is to begin with; it follows the states.

    Raises:
        StoreError: a row is not stored, or is stored with other tokens.
    """

    def __init__(
        self, store: TeacherStore, rows: Any = None, device: torch.device | str = "cpu"
    ) -> None:
        self.store = store
        self._places: Places | None = None
        if rows is not None:
            self._places = Places(rows, store.find(describe_rows(rows)["key"], rows["id"]))
        self._head = store.head().to(device) if store.kind == "hidden" else None
        self._ahead: ReadAhead | None = None

    def encode(
        self, ids: Sequence[str], input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> Tensor:
        """What is stored of the response tokens of a batch, in reading order, shape ``[N, ...]``.

        Args:
            ids: example ids of the rows; rows beyond them are fillers.
            input_ids: shape ``[B, T]``.
            attention_mask: shape ``[B, T]``.
            labels: shape ``[B, T]``, -100 outside of response tokens.
        """
        positions = self._positions(ids, input_ids, attention_mask, labels)
        rows = self._read(positions) if self._ahead is None else self._ahead.take(positions)
        return sent(rows, input_ids.device)

    def expect(
        self, ids: Sequence[str], input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> None:
        """Begin to read what ``encode`` will be asked, after all that is expected already.

        It is read in a thread of its own, which :meth:`close` ends. What is then asked otherwise is
        read when it is asked; what goes wrong is raised by ``encode``.
        """
        if self._ahead is None:
            none = self.store.signal([], self._wanted)
            row_bytes = none.dtype.itemsize * math.prod(none.shape[1:])
            tokens = self.store.location.tokens
            self._ahead = ReadAhead(self._read, tokens.__getitem__, row_bytes)
        self._ahead.expect(self._positions(ids, input_ids, attention_mask, labels))

    def close(self) -> None:
        """Read nothing ahead any more."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _read(self, positions: NDArray[np.integer]) -> Tensor:
        pinned = torch.cuda.is_available()
        return self.store.signal(positions, self._wanted, pinned=pinned)

    @property
    def _wanted(self) -> str:
        return HIDDEN if self._head is not None else TOP_K

    def _positions(
        self, ids: Sequence[str], input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> NDArray[np.int64]:
        positions = np.full(len(ids), -1) if self._places is None else self._places.find(ids)
        for row, example_id in enumerate(ids):
            if positions[row] >= 0:
                continue
            there = attention_mask[row].bool()
            tokens, learned = (one[row][there].tolist() for one in (input_ids, labels))
            key = np.asarray([row_key(example_id, tokens, learned)], dtype=np.uint64)
            positions[row] = self.store.find(key, [example_id])[0]
        return positions

    def tiles(
        self, hidden_NH: Tensor, tile_tokens: int
    ) -> "Iterator[LogitTile] | Iterator[TopKTile]":
        """What the stored rows predict, so many of them at a time."""
        if self._head is not None:
            self._head = self._head.to(hidden_NH.device)
        head = None if self._head is None else LinearProjection(self._head)
        for part in hidden_NH.split(tile_tokens):
            if self._head is None or head is None:
                manifest = self.store.manifest
                yield TopKTile(decode_top_k(part, manifest["top_k"], manifest["vocab_size"]))
            else:
                yield LogitTile(head.logits(part), self._head.transform)


@dataclass(frozen=True)
class TopKTile:
    """A tile of which the likeliest tokens are known.

    Attributes:
        known: what is known of all its tokens.
    """

    known: TopK

    @property
    def kept_nK(self) -> Tensor:
        """The tokens that are told apart."""
        return self.known.kept_nK

    def log_probs(self, rows: slice, temperature: float) -> Tensor:
        """Log-probabilities of the kept tokens and the tail, shape ``[r, K + 1]``."""
        part = TopK(
            self.known.kept_nK[rows],
            self.known.logp_nK[rows],
            self.known.tail_nb[rows],
            self.known.vocab_size,
        )
        return part.log_probs(temperature)


def stored_losses(
    store: TeacherStore, rows: Any, tile_tokens: int = 512
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The teacher's loss on each row from what is stored, without the teacher.

    Args:
        store: an open store.
        rows: a data set with ``id``, ``input_ids`` and ``labels``; all of it must be stored.
        tile_tokens: tokens whose logits are in memory at once.

    Returns:
        Summed negative log-probability in nats, and response tokens, of each row.

    Raises:
        StoreError: a row is not stored.
    """
    positions = store.find(describe_rows(rows)["key"], rows["id"])
    tokens = store.location.tokens[positions].astype(np.int64)
    sums = np.zeros(len(positions))
    # Rows are taken together until they fill a tile or so: one product for many short answers.
    group = np.cumsum(tokens) // tile_tokens
    teacher = StoredTeacher(store)
    for number in np.unique(group):
        members = np.flatnonzero(group == number)
        if store.kind == "topk":
            logp_N = store.signal(positions[members], TARGET)
        else:
            labels = rows.select(members)["labels"]
            targets = [label for row in labels for label in row[1:] if label != -100]
            hidden_NH = store.signal(positions[members], HIDDEN)
            logp_N = _target_logp(teacher, hidden_NH, torch.tensor(targets), tile_tokens)
        row_N = np.repeat(np.arange(len(members)), tokens[members])
        sums[members] = -np.bincount(row_N, logp_N.double().numpy(), minlength=len(members))
    return sums, tokens


def _target_logp(
    teacher: StoredTeacher, hidden_NH: Tensor, targets_N: Tensor, tile_tokens: int
) -> Tensor:
    parts = [
        tile.log_probs(slice(None), 1.0).gather(-1, targets_n.unsqueeze(-1)).squeeze(-1)
        for tile, targets_n in zip(
            teacher.tiles(hidden_NH, tile_tokens), targets_N.split(tile_tokens), strict=True
        )
    ]
    return torch.cat(parts)
