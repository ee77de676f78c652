"""The keys and values of rows that come and go, on transformers' ``DynamicCache``."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

# Shape suffixes: B rows, H heads, C columns, D width of a head.

ROOM = 64
"""Columns that are made at a time for tokens to come."""


class RoomyLayer(DynamicLayer):
    """The keys and values of a layer, at the beginning of arrays with room for further tokens.

    A ``DynamicLayer`` copies all that it holds for every token. This one writes the token alone,
    and copies once in ``ROOM`` tokens.

    Args:
        keys_BHCD: arrays whose first columns are the keys so far.
        values_BHCD: the values.
        columns: so many columns are written.
    """

    def __init__(self, keys_BHCD: Tensor, values_BHCD: Tensor, columns: int) -> None:
        super().__init__()
        self.dtype, self.device = keys_BHCD.dtype, keys_BHCD.device
        self.is_initialized = True
        self._arrays = [keys_BHCD, values_BHCD]
        self._show(columns)

    def _show(self, columns: int) -> tuple[Tensor, Tensor]:
        keys, values = (array[..., :columns, :] for array in self._arrays)
        self.keys, self.values = keys, values
        return keys, values

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the newest columns; all keys and values so far."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if end > self._arrays[0].shape[-2]:
            self._arrays = [_with_room(array, end + ROOM) for array in self._arrays]
        for array, states in zip(self._arrays, (key_states, value_states), strict=True):
            array[..., start:end, :] = states
        return self._show(end)


def _with_room(array_BHCD: Tensor, columns: int) -> Tensor:
    """A copy that has so many columns."""
    rows, heads, old, width = array_BHCD.shape
    wide = array_BHCD.new_zeros(rows, heads, columns, width)
    wide[..., :old, :] = array_BHCD
    return wide


def fresh_cache(model: Any) -> DynamicCache:
    """An empty cache, as ``generate`` makes it for a decoder."""
    return DynamicCache(config=model.config.get_text_config(decoder=True))


def cache_name(model: Any) -> str:
    """What a model's forward pass, ``generate`` and their outputs call the cache.

    ``cache`` since transformers 5.24, ``past_key_values`` before, and in models with code of their
    own. The other name may work too, with a warning, and for some versions only.
    """
    taken = inspect.signature(model.forward).parameters
    old = "past_key_values"
    return "cache" if "cache" in taken and old not in taken else old


def holds_rows(cache: Any) -> bool:
    """Whether the rows of a cache can be taken apart and put together.

    Exact types are asked for: a layer that also holds a recurrent state, a window or an index
    inherits from the plain one.
    """
    return type(cache) is DynamicCache and all(
        type(layer) in (DynamicLayer, RoomyLayer) for layer in cache.layers
    )


@dataclass(frozen=True)
class Part:
    """Rows of one cache that go into another.

    Attributes:
        cache: where they are.
        rows_B: which of its rows, in order; one may be there several times.
        columns: the last columns of it that any of them needs.
    """

    cache: DynamicCache
    rows_B: Tensor
    columns: int


def joined(parts: Sequence[Part], room: int) -> DynamicCache:
    """One cache of the rows of several, aligned at their last columns.

    Columns that a row does not have are zeros: attention leaves them out, and what it leaves out
    must be finite.

    Args:
        parts: the rows; all of the same model, one at least.
        room: columns for tokens to come.
    """
    columns = max(part.columns for part in parts)
    cache: Any = DynamicCache()
    cache.layers = [
        RoomyLayer(
            _stacked([layer.keys for layer in layers], parts, columns, room),
            _stacked([layer.values for layer in layers], parts, columns, room),
            columns,
        )
        for layers in zip(*(part.cache.layers for part in parts), strict=True)
    ]
    return cache


def _stacked(arrays: Sequence[Any], parts: Sequence[Part], columns: int, room: int) -> Tensor:
    """Rows of several arrays in a new one, aligned on the right before the room."""
    _, heads, _, width = arrays[0].shape
    number = sum(len(part.rows_B) for part in parts)
    whole = arrays[0].new_zeros(number, heads, columns + room, width)
    first = 0
    for array, part in zip(arrays, parts, strict=True):
        last = first + len(part.rows_B)
        own = array[..., array.shape[-2] - part.columns :, :]
        rows_B = part.rows_B.to(own.device)  # layers may be on several devices
        whole[first:last, :, columns - part.columns : columns] = own.index_select(0, rows_B)
        first = last
    return whole
