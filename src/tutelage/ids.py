"""Example ids: a sequence of strings in one block of text, without an object for each of them.

Ten million Python strings and the pointers to them take 0.7 GB and seconds to make, compare and
hash. Here they are an Arrow array; what has to be done with all of them is done on numbers that
eight bytes of text make.
"""

import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, SupportsIndex, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tutelage.errors import DataError

IntArray = NDArray[np.integer]

_ROWS = 1 << 16  # what is worked on at once: it stays in the processor's cache
_BYTES = 1 << 22


def index_type(count: int) -> type[np.int32] | type[np.int64]:
    """The smaller type that can number ``count`` things."""
    return np.int32 if count <= np.iinfo(np.int32).max else np.int64


class Ids(Sequence[str]):
    """Strings that cannot be changed; equal to any sequence of the same strings.

    Args:
        ids: strings, or an Arrow array of them.

    Raises:
        DataError: something among them is not text.
    """

    def __init__(self, ids: Iterable[str] | pa.Array | pa.ChunkedArray) -> None:
        self._text = _as_text(ids)

    @staticmethod
    def of(ids: Sequence[str]) -> "Ids":
        """``ids`` itself when it is of this class already."""
        return ids if isinstance(ids, Ids) else Ids(ids)

    @property
    def text(self) -> pa.LargeStringArray:
        """The strings as an Arrow array."""
        return self._text

    def __len__(self) -> int:
        return len(self._text)

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "Ids": ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Ids(self._text[index])
        return self._text[operator.index(index)].as_py()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _ROWS):
            yield from self._text.slice(start, _ROWS).to_pylist()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Ids):
            return self is other or self._text.equals(other._text)
        if isinstance(other, Sequence) and not isinstance(other, str):
            return len(self) == len(other) and all(map(operator.eq, self, other))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        some = ", ".join(map(repr, self[:3]))
        return f"Ids([{some}{', ...' if len(self) > 3 else ''}]), {len(self)} in all"

    def take(self, positions: IntArray) -> "Ids":
        """The ids at some positions."""
        return Ids(self._text.take(pa.array(positions)))

    def equal_to(self, text: str) -> NDArray[np.bool_]:
        """Which of them are ``text``."""
        return _equal(self._text, pa.scalar(text, self._text.type))

    def hashes(self) -> NDArray[np.uint64]:
        """A number for each id: the same for the same text, and hardly ever for another one."""
        return _keys(self._text)

    def repeats(self) -> list[str]:
        """The ids that were there before, in order, as often as they are."""
        keys = _keys(self._text)
        in_order = np.sort(keys)
        twice = in_order[1:][in_order[1:] == in_order[:-1]]
        if not len(twice):
            return []
        seen: set[str] = set()
        suspects = self.take(np.flatnonzero(np.isin(keys, twice)))
        return [one for one in suspects if one in seen or seen.add(one)]

    def locate(self, others: "Ids") -> IntArray:
        """Position among these ids, which must not repeat, of each of ``others``; -1 for none."""
        if self == others:
            return np.arange(len(self), dtype=index_type(len(self)))
        found = np.full(len(others), -1, dtype=index_type(len(self)))
        if not len(self):
            return found
        mine, theirs = _keys(self._text), _keys(others._text)
        order, asked = np.argsort(mine), np.argsort(theirs)
        mine, theirs = mine[order], theirs[asked]
        # Both rise, so that the search does not jump about in memory.
        place = np.minimum(np.searchsorted(mine, theirs), len(mine) - 1)
        same = mine[place] == theirs
        found[asked[same]] = order[place[same]]
        hits = np.flatnonzero(found >= 0)
        wrong = hits[~_equal(self.take(found[hits]).text, others.take(hits).text)]
        if len(wrong):  # different texts with the same key
            position_of = {one: position for position, one in enumerate(self)}
            found[wrong] = [position_of.get(one, -1) for one in others.take(wrong)]
        return found

    def order_by(self, scores: NDArray[np.float64]) -> IntArray:
        """Positions in the order of ``(score, id)``; ids are compared by their code points."""
        order = np.argsort(scores).astype(index_type(len(self)))
        in_order = scores[order]
        run = _number_runs(in_order[1:] != in_order[:-1])
        del in_order
        places = np.flatnonzero(_has_company(run))
        run, word = run[places], 0
        # Eight bytes at a time, and only among ids whose bytes so far are the same.
        while len(places):
            tied = order[places]
            values = _word(self._text, tied, word)
            if values is None:  # the ids end here: the same, but for zeros at the end of some
                lengths = _lengths(self._text)[tied]
                order[places] = tied[_argsort_in_runs(run, lengths * len(self) + tied)]
                break
            sorter = _argsort_in_runs(run, values)
            order[places], values = tied[sorter], values[sorter]
            run = _number_runs((run[1:] != run[:-1]) | (values[1:] != values[:-1]))
            alike = _has_company(run)
            places, run, word = places[alike], run[alike], word + 1
        return order


def _as_text(ids: Iterable[str] | pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    if not isinstance(ids, (pa.Array, pa.ChunkedArray)):
        try:
            ids = pa.array(list(ids), pa.large_string())
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeError) as error:
            raise DataError(f"Example ids must be text: {error}. Convert them.") from error
    text: Any = ids
    if text.null_count:
        raise DataError(
            f"Example ids must be text, but {text.null_count} of them are missing. Give"
            " each example one."
        )
    text = text.cast(pa.large_string())
    if isinstance(text, pa.ChunkedArray):
        text = text.chunk(0) if text.num_chunks == 1 else text.combine_chunks()
    return text


def _number_runs(starts: NDArray[np.bool_]) -> IntArray:
    """The number of the run that each element is in; ``starts`` is of the second one onwards."""
    run = np.zeros(len(starts) + 1, dtype=np.int64)
    np.cumsum(starts, out=run[1:])
    return run


def _has_company(run: IntArray) -> NDArray[np.bool_]:
    """Which elements are in a run with others."""
    same = run[1:] == run[:-1]
    shared = np.zeros(len(run), dtype=bool)
    shared[1:] = same
    shared[:-1] |= same
    return shared


def _argsort_in_runs(run: IntArray, values: NDArray) -> IntArray:
    """What sorts values within runs; runs do not mix, and their numbers rise."""
    sorter = np.argsort(values)
    # Stable by run: run and place in one number, since numbers sort faster than places by them.
    packed = run[sorter].astype(np.int64) * len(run) + np.arange(len(run))
    packed.sort()
    packed %= len(run)
    return sorter[packed]


def _equal(texts: pa.LargeStringArray, others: Any) -> NDArray[np.bool_]:
    return pc.call_function("equal", [texts, others]).to_numpy(zero_copy_only=False)


def _offsets(text: pa.LargeStringArray) -> NDArray[np.int64]:
    """Where each text begins and the last one ends, in bytes."""
    count = len(text) + 1 if len(text) else 0  # an empty array may lack what it does not need
    bounds = np.frombuffer(text.buffers()[1] or b"", dtype=np.int64)
    return bounds[text.offset : text.offset + count]


def _lengths(text: pa.LargeStringArray) -> NDArray[np.int64]:
    """Bytes of each text."""
    return np.diff(_offsets(text))


def _padded(text: pa.LargeStringArray) -> tuple[NDArray[np.uint64], IntArray]:
    """Texts as rows of big-endian words of eight bytes, filled up with zeros, and their lengths."""
    offsets = _offsets(text)
    data = np.frombuffer(text.buffers()[2] or b"", dtype=np.uint8)[offsets[0] : offsets[-1]]
    lengths = np.diff(offsets)
    longest = int(lengths.max())
    padded = np.zeros((len(text), max(-(-longest // 8), 1) * 8), dtype=np.uint8)
    if (lengths == longest).all():
        padded[:, :longest] = data.reshape(len(text), longest)
    else:
        padded[np.arange(padded.shape[1]) < lengths[:, None]] = data
    return padded.view(">u8").astype(np.uint64), lengths


def _parts(text: pa.LargeStringArray, count: int) -> Iterator[slice]:
    """Parts of ``count`` texts that take little memory when padded to the longest of an array."""
    longest = int(_lengths(text).max(initial=0))
    rows = int(np.clip(_BYTES // (longest + 8), 1, _ROWS))
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))


def _keys(text: pa.LargeStringArray) -> NDArray[np.uint64]:
    """A number for each text: the same for the same text, and hardly ever for another one."""
    keys = np.empty(len(text), dtype=np.uint64)
    for part in _parts(text, len(text)):
        words, lengths = _padded(text[part])
        key = lengths.astype(np.uint64)
        for number in range(words.shape[1]):
            # A text's own words alone count, not how far others in the part reach.
            key = np.where(lengths > 8 * number, _mix(key ^ words[:, number]), key)
        keys[part] = key
    return keys


def _mix(key: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The last step of splitmix64: one to one, and every bit reaches all the others."""
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def _word(text: pa.LargeStringArray, positions: IntArray, number: int) -> NDArray[np.uint64] | None:
    """Word ``number`` of the texts at some positions, 0 where they are shorter; None if all are."""
    chosen = np.zeros(len(positions), dtype=np.uint64)
    reached = False
    for part in _parts(text, len(positions)):
        words, _ = _padded(text.take(pa.array(positions[part])))
        if number < words.shape[1]:
            chosen[part], reached = words[:, number], True
    return chosen if reached else None
