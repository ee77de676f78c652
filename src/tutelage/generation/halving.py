"""Continuing prompts with ``generate``, for models whose rows ``refill`` cannot let come and go."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from tutelage.generation.drawing import Choose
from tutelage.generation.row_cache import cache_name
from tutelage.generation.rows import Row, streams_of
from tutelage.generation.stopping import LOOK_EVERY, Stops

# Shape suffixes: B batch, T tokens, L length of the longest answer, V vocabulary.


class Halving:
    """Continues rows in batches, which go on without the rows that have ended, half by half.

    A row that has ended costs as much as one that has not. So a batch stops whenever half of it
    has ended and goes on without those rows: never more than half of the work is wasted, and there
    are few stops.

    Args:
        model: a causal language model without wrappers, in evaluation mode.
        choose: chooses tokens.
        stops: what ends a row.
        budget: rows of a batch times (longest prompt + longest answer).
        positions: tokens that the model can take.
        pad_token_id: fills the batches.
    """

    def __init__(
        self,
        model: Any,
        choose: Choose,
        stops: Stops,
        *,
        budget: int,
        positions: float,
        pad_token_id: int,
    ) -> None:
        self._model, self._choose, self._stops = model, choose, stops
        self._budget, self._positions, self._pad = budget, positions, pad_token_id

    def finished(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Continue rows; they come back as they end, a batch at a time."""
        for batch in batches(rows, self._budget, self._positions):
            self._continue(batch)
            yield batch

    def _continue(self, rows: Sequence[Row]) -> None:
        """Write rows up to their ends, or a little beyond."""
        width = max(len(row.prompt) for row in rows)
        most = max(row.limit for row in rows)
        device = self._model.device
        pads = [width - len(row.prompt) for row in rows]
        ids_BT = torch.tensor(
            [(self._pad,) * pad + row.prompt for row, pad in zip(rows, pads, strict=True)]
        ).to(device)
        mask_BT = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads]).to(device)
        streams_BL = torch.from_numpy(streams_of(rows)).to(device)
        rows_B = torch.arange(len(rows), device=device)
        cache: DynamicCache | None = None
        name = cache_name(self._model)
        while len(rows_B):
            choice = _Choice(self._choose, streams_BL[rows_B], width)
            output = self._model.generate(
                input_ids=ids_BT,
                attention_mask=mask_BT,
                generation_config=self._config(width + most - ids_BT.shape[1]),
                **({} if cache is None else {name: cache}),
                logits_processor=LogitsProcessorList([choice]),
                stopping_criteria=StoppingCriteriaList([_HalfHasEnded(self._stops, width)]),
            )
            choice.tell([rows[number] for number in rows_B.tolist()])
            ids_BT = output.sequences
            new_BT = ids_BT[:, width:]
            ended_B = self._stops.with_token(new_BT) | self._stops.with_string(new_BT)
            ended_B |= new_BT.shape[1] == most
            ended = zip(rows_B[ended_B].tolist(), new_BT[ended_B].tolist(), strict=True)
            for number, tokens in ended:
                rows[number].tokens = tokens
            going = (~ended_B).nonzero().squeeze(-1)
            cache = rows_of_cache(getattr(output, name), going)
            rows_B, ids_BT = rows_B[going], ids_BT[going]
            mask_BT = nn.functional.pad(
                mask_BT[going], (0, ids_BT.shape[1] - mask_BT.shape[1]), value=1
            )

    def _config(self, limit: int) -> GenerationConfig:
        """Greedy generation: what is drawn is made the likeliest token before."""
        return GenerationConfig(
            max_new_tokens=limit,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            pad_token_id=self._pad,
            eos_token_id=list(self._stops.tokens) or None,
            return_dict_in_generate=True,
        )


def batches(rows: Sequence[Row], budget: int, positions: float) -> list[list[Row]]:
    """Rows of similar length under a budget, the longest first.

    A batch continues all of its rows alike, so its longest prompt with its longest answer must fit
    into the model's positions too.
    """
    found: list[list[Row]] = []
    width = 0
    for row in sorted(rows, key=lambda row: -len(row.prompt)):
        if found:
            # Sorted, so the first prompt is the longest; shorter ones may have more room.
            width = max(width, len(found[-1][0].prompt) + row.limit)
        full = not found or (len(found[-1]) + 1) * width > budget
        if full or width > positions:
            found.append([])
            width = row.longest
        found[-1].append(row)
    return found


def rows_of_cache(cache: Any, rows_B: Tensor) -> DynamicCache | None:
    """The cache of some rows; None when it is of a kind whose rows cannot be taken apart.

    Without a cache the rows are read again from their first token: slower, and just as right.
    """
    plain = (DynamicLayer, DynamicSlidingWindowLayer)
    # Exact types: a layer that also holds a recurrent state inherits a selection that forgets it.
    if type(cache) is not DynamicCache or any(type(layer) not in plain for layer in cache.layers):
        return None
    cache.batch_select_indices(rows_B)
    return cache


class _Choice(LogitsProcessor):
    """Leaves one token to take in each row: the one that is chosen.

    Args:
        choose: chooses it.
        streams_BL: what each row draws with.
        width: tokens of a row before the first new one.
    """

    def __init__(self, choose: Choose, streams_BL: Tensor, width: int) -> None:
        self._choose, self._streams_BL, self._width = choose, streams_BL, width
        self._notes: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores that are minus infinity but for the token chosen; same shape."""
        # Rows beyond their own limits draw with what is there.
        place = min(input_ids.shape[1] - self._width, self._streams_BL.shape[1] - 1)
        places_B = torch.full_like(input_ids[:, 0], place)
        token_B, note_B = self._choose(scores, self._streams_BL, places_B)
        if note_B is not None:
            self._notes.append(note_B)
        return torch.full_like(scores, -torch.inf).scatter_(1, token_B.unsqueeze(1), 0.0)

    def tell(self, rows: Sequence[Row]) -> None:
        """Give rows what was noted of the tokens that were chosen for them."""
        if self._notes:
            for row, notes in zip(rows, torch.stack(self._notes, 1).cpu(), strict=True):
                row.notes.append(notes)


class _HalfHasEnded(StoppingCriteria):
    """Stops a whole batch once at least half of its rows have ended.

    Args:
        stops: what ends a row.
        width: tokens of a row before the first new one.
    """

    def __init__(self, stops: Stops, width: int) -> None:
        self.stops = stops
        self.width = width
        self._met_B: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Any, **options: Any) -> Tensor:
        """All true or all false, shape ``[B]``."""
        new_BT = input_ids[:, self.width :]
        ended_B = self.stops.with_token(new_BT)
        if self.stops.strings:
            if self._met_B is None:
                self._met_B = torch.zeros_like(ended_B)
            if new_BT.shape[1] % LOOK_EVERY == 0:
                # The last look saw all but the latest tokens, and a string may begin before those.
                reach = self.stops.longest + LOOK_EVERY + 1
                self._met_B |= self.stops.with_string(new_BT[:, -reach:])
            ended_B = ended_B | self._met_B
        return torch.full_like(ended_B, bool(2 * ended_B.sum() >= len(ended_B)))
