"""Micro-batches by tokens: a step's rows cut so that no part has more tokens than fit."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

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


def _rows(batch: Mapping[str, Any], rows: slice, columns: int) -> dict[str, Any]:
    cut: dict[str, Tensor] = {name: batch[name][rows, :columns] for name in TENSORS}
    return {**batch, **cut, **{name: batch[name][rows] for name in LISTS if name in batch}}
