"""A batch of rows that are written together, a token each at every step; rows come and go.

The batch is a cache (``row_cache``) and a ``State``: what is known of every row, as tensors, so
that a token costs a handful of operations and no loop over rows. What is written is fetched from
the device when rows come, go or are looked at for stop strings, and kept in their ``Row``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from tutelage.generation.drawing import Choose
from tutelage.generation.row_cache import ROOM, Part, cache_name, joined
from tutelage.generation.rows import Row, streams_of
from tutelage.generation.stopping import LOOK_EVERY, Stops

# Shape suffixes: B rows, T columns, S steps, L length of the longest answer, V vocabulary.


@dataclass
class State:
    """What is known of the rows of a batch.

    Attributes:
        token_B: the latest token of each row, which its cache does not hold yet.
        count_B: tokens written so far, of a row that has ended up to its end.
        limit_B: most of them.
        start_B: position of the first of them.
        ended_B: whether the row's answer has ended.
        stream_BL: what each row draws with, token by token.
    """

    token_B: Tensor
    count_B: Tensor
    limit_B: Tensor
    start_B: Tensor
    ended_B: Tensor
    stream_BL: Tensor

    @classmethod
    def of(cls, rows: Sequence[Row], longest: int, device: torch.device) -> "State":
        """Rows of which nothing is written.

        Args:
            rows: the rows.
            longest: the longest stream of any row that is ever in the batch.
            device: of the model.
        """
        streams_BL = torch.from_numpy(streams_of(rows))
        streams_BL = nn.functional.pad(streams_BL, (0, longest + 1 - streams_BL.shape[1]))
        limits = torch.tensor([row.limit for row in rows])
        starts = torch.tensor([len(row.prompt) for row in rows])
        nothing = torch.zeros_like(limits)
        parts = (nothing, nothing.clone(), limits, starts, nothing.bool(), streams_BL)
        return cls(*(part.to(device) for part in parts))

    def of_rows(self, rows_B: Tensor) -> "State":
        """Some of the rows."""
        return State(*(getattr(self, one.name)[rows_B] for one in fields(self)))

    def and_others(self, others: "State") -> "State":
        """The rows of two batches."""
        names = [one.name for one in fields(self)]
        return State(*(torch.cat([getattr(self, n), getattr(others, n)]) for n in names))

    def take(self, token_B: Tensor, is_stop_V: Tensor) -> None:
        """Note the next token of each row; what comes after a row's end is not counted."""
        self.token_B = token_B
        self.count_B += ~self.ended_B
        self.ended_B = self.ended_B | is_stop_V[token_B] | (self.count_B >= self.limit_B)


@dataclass(frozen=True)
class Start:
    """Rows that are to join a batch: their prompts are read, and nothing is written yet.

    Attributes:
        rows: the rows.
        part: their cache.
        logits_BV: of the first token of each.
    """

    rows: Sequence[Row]
    part: Part
    logits_BV: Tensor


class Batch:
    """Rows that are written together.

    Args:
        model: a model that ``refill.decodes`` accepts, in evaluation mode.
        choose: draws tokens.
        stops: what ends a row.
        longest: the most that is written after any prompt.
    """

    def __init__(self, model: Any, choose: Choose, stops: Stops, longest: int) -> None:
        self.rows: list[Row] = []
        self._model, self._choose, self._stops = model, choose, stops
        self._longest = longest
        size = model.get_output_embeddings().weight.shape[0]
        self._is_stop_V = torch.zeros(size, dtype=torch.bool, device=model.device)
        self._is_stop_V[[token for token in stops.tokens if token < size]] = True
        self._state: State | None = None
        self._cache: DynamicCache | None = None
        self._cache_name = cache_name(model)
        self._mask_BT = torch.empty(0, 0)
        self._columns = 0
        self._going: list[int] = []
        self._tokens: list[Tensor] = []
        self._notes: list[Tensor] = []

    def leave(self) -> list[Row]:
        """Let the rows that have ended leave; ``gather`` comes next."""
        if self._state is None:
            return []
        self._look(self._state)
        ended = self._state.ended_B.tolist()
        self._going = [number for number, end in enumerate(ended) if not end]
        left = [row for row, end in zip(self.rows, ended, strict=True) if end]
        self.rows = [self.rows[number] for number in self._going]
        return left

    def gather(self, starts: Sequence[Start]) -> None:
        """Put those that go on and those that join together, without columns that nobody needs."""
        states = [self._begun(start) for start in starts]
        parts = [start.part for start in starts]
        if self._going:
            assert self._state is not None and self._cache is not None
            going_B = torch.tensor(self._going, device=self._model.device)
            columns = max(row.read for row in self.rows)
            parts.insert(0, Part(self._cache, going_B, columns))
            states.insert(0, self._state.of_rows(going_B))
        self.rows += [row for start in starts for row in start.rows]
        if not parts:
            self._state = self._cache = None
            return
        self._state = states[0]
        for others in states[1:]:
            self._state = self._state.and_others(others)
        room = min(ROOM, max(row.limit - len(row.tokens) for row in self.rows))
        self._cache = joined(parts, room)
        self._columns = max(part.columns for part in parts)
        pads_B1 = torch.tensor([[self._columns - row.read] for row in self.rows])
        self._mask_BT = (torch.arange(self._columns) >= pads_B1).long().to(self._model.device)

    def _begun(self, start: Start) -> State:
        """The state of rows that join, with their first tokens."""
        state = State.of(start.rows, self._longest, self._model.device)
        self._write(start.logits_BV, state)
        self._fetch(start.rows)
        return state

    def run(self, enough: int) -> None:
        """Write until so many rows have ended, or one that has ended takes more than its room."""
        state = self._state
        assert state is not None and 1 <= enough <= len(self.rows)
        # Rows that have ended go on beyond their limits, but not beyond the room of the others.
        most = max(row.longest for row in self.rows)
        while int(state.ended_B.sum()) < enough and self._columns < most:
            self._step(state)
            if self._stops.strings and len(self._tokens) == LOOK_EVERY:
                self._look(state)

    def _step(self, state: State) -> None:
        """Write a token to every row."""
        self._columns += 1
        if self._columns > self._mask_BT.shape[1]:
            self._mask_BT = nn.functional.pad(self._mask_BT, (0, ROOM), value=1)
        positions_B = state.start_B + state.count_B - 1
        logits_BTV = self._model(
            input_ids=state.token_B.unsqueeze(1),
            attention_mask=self._mask_BT[:, : self._columns],
            position_ids=positions_B.unsqueeze(1),
            use_cache=True,
            **{self._cache_name: self._cache},
        ).logits
        self._write(logits_BTV[:, -1], state)

    def _write(self, logits_BV: Tensor, state: State) -> None:
        """Choose the next token of each row."""
        logits_BV = logits_BV.to(self._model.device)
        token_B, note_B = self._choose(logits_BV, state.stream_BL, state.count_B)
        state.take(token_B, self._is_stop_V)
        self._tokens.append(token_B)
        if note_B is not None:
            self._notes.append(note_B)

    def _fetch(self, rows: Sequence[Row]) -> None:
        """Bring what was written since the last time to the rows it was written to."""
        if self._tokens:
            for row, tokens in zip(rows, torch.stack(self._tokens, 1).tolist(), strict=True):
                row.tokens += tokens
        if self._notes:
            for row, notes in zip(rows, torch.stack(self._notes, 1).cpu(), strict=True):
                row.notes.append(notes)
        self._tokens, self._notes = [], []

    def _look(self, state: State) -> None:
        """Bring what was written to the rows, and note which of them hold a stop string.

        The last look saw all but the latest tokens, and a string may begin before those; where
        they seem to hold one, all of the row is read to be sure.
        """
        self._fetch(self.rows)
        if not self._stops.strings:
            return
        reach = self._stops.longest + LOOK_EVERY + 1
        for number, ended in enumerate(state.ended_B.tolist()):
            tokens = self.rows[number].tokens
            if not ended and self._stops.hold(tokens[-reach:]) and self._stops.hold(tokens):
                state.ended_B[number] = True
