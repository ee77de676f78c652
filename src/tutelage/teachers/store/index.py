"""Where in the shards of a store each example is: sorted arrays, for ten million of them too."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.ids import Ids, index_type
from tutelage.teachers.store.keys import Keys
from tutelage.teachers.store.shards import KEYS, TOKENS, opened

_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Location:
    """Where the signals of examples are.

    Attributes:
        keys: sorted, shape ``[E]``.
        shard: number of the shard, shape ``[E]``.
        start: first token in the shard, shape ``[E]``.
        tokens: response tokens, shape ``[E]``.
    """

    keys: Keys
    shard: NDArray[np.int32]
    start: NDArray[np.integer]
    tokens: NDArray[np.integer]

    def find(self, keys: Keys) -> NDArray[np.integer]:
        """Position of each key; -1 for those that are not stored."""
        found = np.full(len(keys), -1, dtype=index_type(len(self.keys)))
        if not len(self.keys):
            return found
        # The search is told rising keys, some at a time: it does not jump about in memory then.
        order = None if _rises(keys) else np.argsort(keys)
        for start in range(0, len(keys), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            which = part if order is None else order[part]
            wanted = keys[which]
            place = np.searchsorted(self.keys, wanted).clip(max=len(self.keys) - 1)
            found[which] = np.where(self.keys[place] == wanted, place, -1)
        return found


def _rises(keys: Keys) -> bool:
    return bool((keys[1:] >= keys[:-1]).all())


def read_location(paths: Sequence[Path]) -> Location:
    """Where everything in some shards is; an example that is in two is taken from the first."""
    contents = [_contents(path) for path in paths]
    keys = np.concatenate([np.zeros(0, np.uint64), *(keys for keys, _ in contents)])
    tokens = [tokens for _, tokens in contents]
    longest = max((int(each.sum()) for each in tokens), default=0)
    del contents
    order = np.argsort(keys)
    keys = keys[order]
    new = np.ones(len(keys), dtype=bool)
    new[1:] = keys[1:] != keys[:-1]
    if not new.all():
        order = np.minimum.reduceat(order, np.flatnonzero(new))
        keys = keys[new]
    shard = np.repeat(np.arange(len(tokens), dtype=np.int32), [len(each) for each in tokens])
    start = (np.cumsum(each) - each for each in tokens)
    return Location(
        keys, shard[order], _joined(start, longest)[order], _joined(tokens, longest)[order]
    )


def _contents(path: Path) -> tuple[Keys, NDArray[np.int64]]:
    with opened(path) as file:
        return file.get_tensor(KEYS).numpy().view(np.uint64), file.get_tensor(TOKENS).numpy()


def _joined(parts: Iterable[NDArray[np.int64]], largest: int) -> NDArray[np.integer]:
    kind = index_type(largest)
    return np.concatenate([np.zeros(0, kind), *(part.astype(kind) for part in parts)])


class Places:
    """Positions in a store by example id, for rows that will be asked for again and again.

    Args:
        rows: a data set with ``id``.
        positions: of each row.
    """

    def __init__(self, rows: Any, positions: NDArray[np.integer]) -> None:
        hashes = np.empty(len(rows), dtype=np.uint64)
        start = 0
        for table in rows.select_columns(["id"]).with_format("arrow").iter(_AT_ONCE):
            part = Ids(table["id"]).hashes()
            hashes[start : start + len(part)] = part
            start += len(part)
        order = np.argsort(hashes)
        self._hashes, self._positions = hashes[order], positions[order]

    def find(self, example_ids: Sequence[str]) -> NDArray[np.int64]:
        """The position of each id; -1 for one that is not there, or stands at several.

        Several teachers may have answered one prompt: the tokens tell their answers apart.
        """
        asked = Ids(example_ids).hashes()
        first = np.searchsorted(self._hashes, asked, "left")
        last = np.searchsorted(self._hashes, asked, "right")
        found = np.full(len(asked), -1, dtype=np.int64)
        for number in np.flatnonzero(last > first):
            places = self._positions[first[number] : last[number]]
            if (places == places[0]).all():
                found[number] = places[0]
        return found
