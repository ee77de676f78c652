"""From rows of tokens to padded tensors, and from lengths to batches that waste little padding."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tutelage.errors import ConfigError
from tutelage.ids import index_type

IGNORED = -100
"""The label of a token that is not learned; the value that PyTorch's cross-entropy skips."""


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id to pad with: the padding token, else the end-of-sequence token, else 0.

    Padding is never attended to and never labelled, so any id will do, and nothing has to be added
    to the vocabulary.
    """
    ids: list[Any] = [tokenizer.pad_token_id, tokenizer.eos_token_id, 0]
    return next(i for i in ids if i is not None)


def collate(rows: Sequence[Mapping[str, Any] | None], pad_token_id: int) -> dict[str, Tensor]:
    """Pad rows on the right to the length of the longest.

    A row of None is a filler, as the last batch of a process may need: one padding token that is
    attended to, so that attention has no empty row and gives no NaN, and that is not labelled.

    Args:
        rows: mappings with ``input_ids`` and ``labels`` of equal length, or None.
        pad_token_id: fills ``input_ids``; ``labels`` are filled with -100.

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels``, int64, each of shape ``[B, T]``.

    Examples:
        >>> collate([{"input_ids": [5, 6], "labels": [-100, 6]}, None], pad_token_id=0)["labels"]
        tensor([[-100,    6],
                [-100, -100]])
    """
    filler = {"input_ids": [pad_token_id], "labels": [IGNORED]}
    filled = [filler if row is None else row for row in rows]
    shape = (len(filled), max((len(row["input_ids"]) for row in filled), default=0))
    input_ids = torch.full(shape, pad_token_id, dtype=torch.long)
    labels = torch.full(shape, IGNORED, dtype=torch.long)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    for i, row in enumerate(filled):
        length = len(row["input_ids"])
        input_ids[i, :length] = torch.as_tensor(row["input_ids"], dtype=torch.long)
        labels[i, :length] = torch.as_tensor(row["labels"], dtype=torch.long)
        attention_mask[i, :length] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}


class Batches(Sequence[list[int]]):
    """Batches of positions, each made when it is looked at; equal to any sequence of the same ones.

    Args:
        order: the positions of all batches, one after another.
        starts: where each batch begins in ``order``, and where the last one ends.
    """

    def __init__(self, order: NDArray[np.integer], starts: Sequence[int]) -> None:
        self._order = order
        self._starts = np.asarray(starts, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: SupportsIndex) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[operator.index(index)]
        return self._order[self._starts[number] : self._starts[number + 1]].tolist()

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


def length_batches(
    lengths: Sequence[int] | NDArray[np.integer], *, max_tokens: int = 8192, max_rows: int = 64
) -> Batches:
    """Group positions of similar length into batches under a token budget.

    The longest come first, so that a batch that does not fit into memory fails at once. Equal
    lengths keep their order, so equal inputs give equal batches.

    Args:
        lengths: tokens of each row.
        max_tokens: most tokens of a padded batch; a row that is longer gets a batch of its own.
        max_rows: most rows of a batch.

    Returns:
        Batches of positions into ``lengths``; every position occurs once.

    Raises:
        ConfigError: a limit below 1.

    Examples:
        >>> length_batches([2, 9, 3, 8], max_tokens=18, max_rows=8)
        [[1, 3], [2, 0]]
    """
    _check_room(max_tokens=max_tokens, max_rows=max_rows)
    order, falling = _longest_first(lengths)
    starts = [0]
    while starts[-1] < len(order):
        # Sorted, so the first row of a batch is its longest and decides how many fit.
        room = min(max_rows, max(1, max_tokens // max(1, int(falling[starts[-1]]))))
        starts.append(min(starts[-1] + room, len(order)))
    return Batches(order, starts)


def packed_batches(
    lengths: Sequence[int] | NDArray[np.integer], *, max_tokens: int = 8192
) -> Batches:
    """Group positions into batches that are run without padding, under a token budget.

    As with ``length_batches`` the longest come first and equal lengths keep their order. Rows of
    equal length lie side by side, where attention takes them together.

    Args:
        lengths: tokens of each row.
        max_tokens: most tokens of a batch; a row that is longer gets a batch of its own.

    Returns:
        Batches of positions into ``lengths``; every position occurs once.

    Raises:
        ConfigError: a limit below 1.

    Examples:
        >>> packed_batches([2, 9, 3, 8], max_tokens=13)
        [[1], [3, 2, 0]]
    """
    _check_room(max_tokens=max_tokens)
    order, falling = _longest_first(lengths)
    tokens = np.cumsum(falling)
    starts = [0]
    while (start := starts[-1]) < len(order):
        before = int(tokens[start - 1]) if start else 0
        stop = int(np.searchsorted(tokens, before + max_tokens, side="right"))
        starts.append(max(stop, start + 1))
    return Batches(order, starts)


def _longest_first(
    lengths: Sequence[int] | NDArray[np.integer],
) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Positions from the longest row to the shortest, equal ones in order; and the lengths then."""
    array = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-array, kind="stable").astype(index_type(len(array)))
    return order, array[order]


def _check_room(**limits: int) -> None:
    if min(limits.values()) < 1:
        raise ConfigError(
            "A batch needs room for one row of one token, got"
            f" {' and '.join(f'{name}={limit}' for name, limit in limits.items())}."
            " Raise them to at least 1."
        )
