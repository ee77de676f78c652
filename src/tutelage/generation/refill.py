"""Continuing prompts with batches that stay full: rows that have ended make room for the next.

Answers differ in length, and a row that has ended costs as much as one that has not. So such rows
leave, a group at a time, and the prompts that wait are read as a batch of their own and join. A
prompt that is there several times, for several samples, is read once.
"""

import inspect
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationMixin

from tutelage.generation.decoding import Batch, Start
from tutelage.generation.drawing import Choose
from tutelage.generation.row_cache import Part, cache_name, fresh_cache, holds_rows, joined
from tutelage.generation.rows import Row
from tutelage.generation.stopping import Stops

# Shape suffixes: B rows, T tokens, V vocabulary.

REFILL_SHARE = 0.125
"""Share of a batch that has ended when others take the place of those rows."""

SHRINK_SHARE = 0.25
"""The same when no others wait, and the batch becomes smaller."""

_TAKEN = {"input_ids", "attention_mask", "position_ids", "use_cache"}
_STEADY_ROTATIONS = {"default", "linear", "yarn", "llama3", "proportional"}
_OWN = (
    "generate",
    "prepare_inputs_for_generation",
    "_prepare_position_ids_for_generation",
    "_prepare_cache_for_generation",
    "_update_model_kwargs_for_generation",
    "_prefill",
    "_sample",
)
"""Parts of ``generate`` that a model may have of its own; not all versions have all of them."""


def room_for(rows: int, width: int, budget: int) -> bool:
    """Whether so many rows may be written at a time, of prompts with answers of such a width."""
    return rows * width <= budget


def decodes(model: Any) -> bool:
    """Whether this module can continue rows of a model, and let them come and go.

    It can where ``generate`` does nothing that is special to the model, the cache is a plain one,
    and a position is no more than a number: the rest is left to ``generate``.

    Args:
        model: a causal language model without wrappers.
    """
    config = model.config
    text = config.get_text_config(decoder=True)
    rotations = getattr(text, "rope_parameters", None) or {}
    kinds = [rotations, *(one for one in rotations.values() if isinstance(one, dict))]
    shared = (getattr(GenerationMixin, name, None) for name in _OWN)
    own = (getattr(type(model), name, None) for name in _OWN)
    return (
        all(one is other for one, other in zip(own, shared, strict=True))
        and type(model)._auto_class is None  # what `is_remote_code` asks, which is not in 5.0
        and model._supports_default_dynamic_cache()
        and not config.is_encoder_decoder
        and not getattr(text, "add_cross_attention", False)
        # Some rotations change with the longest row of a batch, after keys were rotated.
        and all(kind.get("rope_type", "default") in _STEADY_ROTATIONS for kind in kinds)
        and inspect.signature(model.forward).parameters.keys() >= {*_TAKEN, cache_name(model)}
        and holds_rows(fresh_cache(model))
    )


@dataclass(frozen=True)
class _Read:
    """Prompts that were read.

    Attributes:
        prompts: their tokens.
        cache: their keys and values.
        logits_BV: of the token after each.
    """

    prompts: Sequence[tuple[int, ...]]
    cache: DynamicCache
    logits_BV: Tensor

    def start(self, groups: Sequence[Sequence[Row]]) -> Start:
        """Rows that begin with these prompts: a group of them with each."""
        rows = [row for group in groups for row in group]
        prompt_of = [number for number, group in enumerate(groups) for _ in group]
        rows_B = torch.tensor(prompt_of, device=self.logits_BV.device)
        columns = max(map(len, self.prompts))
        return Start(rows, Part(self.cache, rows_B, columns), self.logits_BV[rows_B])

    def last(self) -> "_Read":
        """The last prompt alone."""
        row_B = torch.tensor([len(self.prompts) - 1], device=self.logits_BV.device)
        alone = joined([Part(self.cache, row_B, len(self.prompts[-1]))], room=0)
        return _Read(self.prompts[-1:], alone, self.logits_BV[row_B])


class Refill:
    """Continues rows, as many at a time as a budget allows.

    Args:
        model: a model that ``decodes`` accepts, in evaluation mode.
        choose: draws tokens.
        stops: what ends a row.
        budget: rows at a time times (longest prompt + its longest answer).
        pad_token_id: fills the batches.
    """

    def __init__(
        self,
        model: Any,
        choose: Choose,
        stops: Stops,
        *,
        budget: int,
        pad_token_id: int,
    ) -> None:
        self._model, self._choose, self._stops = model, choose, stops
        self._budget, self._pad = budget, pad_token_id
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._last: _Read | None = None

    def finished(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Continue rows; they come back as they end, some at a time."""
        # Long prompts first, those of one length side by side, equal ones together.
        waiting = deque(sorted(rows, key=lambda row: (-len(row.prompt), row.prompt)))
        longest = max((len(row.stream) for row in rows), default=0)
        batch = Batch(self._model, self._choose, self._stops, longest)
        while waiting or batch.rows:
            ended = batch.leave()
            if ended:
                yield ended
            batch.gather(self._starts(self._fitting(waiting, batch.rows), waiting))
            if batch.rows:
                share = REFILL_SHARE if waiting else SHRINK_SHARE
                batch.run(enough=max(1, round(share * len(batch.rows))))

    def _fitting(self, waiting: "deque[Row]", going: Sequence[Row]) -> list[Row]:
        """Those of the rows that wait for which there is room beside the others, taken out."""
        width = max((row.longest for row in going), default=0)
        fitting: list[Row] = []
        while waiting:
            width = max(width, waiting[0].longest)
            number = len(going) + len(fitting) + 1
            if number > 1 and not room_for(number, width, self._budget):
                break
            fitting.append(waiting.popleft())
        return fitting

    def _starts(self, rows: Sequence[Row], waiting: "deque[Row]") -> list[Start]:
        """Read the prompts of rows, each once: also if others with the last one still wait."""
        groups = [list(group) for _, group in groupby(rows, key=lambda row: row.prompt)]
        starts = []
        if groups and self._last is not None and self._last.prompts[-1] == rows[0].prompt:
            starts.append(self._last.start(groups[:1]))
            groups = groups[1:]
        if groups:
            read = self._read([group[0].prompt for group in groups])
            starts.append(read.start(groups))
            self._last = read.last() if waiting and waiting[0].prompt == rows[-1].prompt else None
        return starts

    def _read(self, prompts: Sequence[tuple[int, ...]]) -> _Read:
        """Read prompts together; logits are made of what follows them alone."""
        width, model = max(map(len, prompts)), self._model
        ids_BT = torch.tensor([(self._pad,) * (width - len(p)) + p for p in prompts])
        mask_BT = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        ids_BT, mask_BT = ids_BT.to(model.device), mask_BT.to(model.device)
        last = {"logits_to_keep": 1} if self._keeps_logits else {}
        cache = fresh_cache(model)
        output = model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=(mask_BT.cumsum(-1) - 1).clamp_min(0),
            use_cache=True,
            **{cache_name(model): cache},
            **last,
        )
        return _Read(prompts, cache, output.logits[:, -1].to(model.device))
