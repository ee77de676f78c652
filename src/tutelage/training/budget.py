"""Micro-batches by tokens: a step's rows cut so that no part has more tokens than fit."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from tutelage.data.collate import collate

TENSORS = ("input_ids", "attention_mask", "labels")
LISTS = ("ids", "places", "states", "weights")


def split_by_tokens(
    batch: Mapping[str, Any], budget: int | None, *, packed: bool
) -> Iterator[dict[str, Any]]:
    """Cut a batch into parts of neighbouring rows, each without needless columns.

    Args:
        batch: ``input_ids``, ``attention_mask`` and ``labels`` of shape ``[B, T]``, padded on the
            right; lists of what rows have (``LISTS``); whatever else is the same for all parts.
        budget: most tokens of a part; a longer row is a part by itself. None for one part.
        packed: count real tokens, not the padding up to the longest row of a part.
    """
    lengths = [] if budget is None else batch["attention_mask"].sum(1).tolist()
    if budget is None or sum(lengths) == 0:
        yield dict(batch)
        return
    first, filled, longest = 0, 0, 0
    for row, length in enumerate([*lengths, None]):
        if length is not None:
            size = filled + length if packed else (row + 1 - first) * max(longest, length)
            if row == first or size <= budget:
                filled, longest = filled + length, max(longest, length)
                continue
        yield _rows(batch, slice(first, row), longest)
        if length is not None:
            first, filled, longest = row, length, length


def fillers(batch: Mapping[str, Any], count: int, pad_token_id: int) -> list[dict[str, Any]]:
    """So many parts without a response token.

    Args:
        batch: whose step they are of, and on whose device.
        count: how many.
        pad_token_id: what they consist of.
    """
    empty = collate([None], pad_token_id)
    empty["input_ids"] = empty["input_ids"].to(batch["input_ids"].device)
    lists = {name: [] for name in LISTS if name in batch}
    return [{**batch, **empty, **lists} for _ in range(count)]


def _rows(batch: Mapping[str, Any], rows: slice, columns: int) -> dict[str, Any]:
    cut: dict[str, Tensor] = {name: batch[name][rows, :columns] for name in TENSORS}
    return {**batch, **cut, **{name: batch[name][rows] for name in LISTS if name in batch}}
