"""Examples in a table: any number of them, and none an object before somebody looks at it.

Each is a short string of bytes in a table that may be on disk (see ``Spool``). What has to be done
with all of them is done on arrays of numbers.
"""

import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tutelage.ids import Ids, IntArray
from tutelage.types import Example, Message

SCHEMA = pa.schema([("id", pa.string()), ("example", pa.binary())])
"""Of the table: the id, and what ``pack`` makes of the rest."""

ROWS_AT_ONCE = 1024
"""Examples that are Python objects at once."""

_JSON = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))
_SORTED = json.JSONEncoder(sort_keys=True)


@dataclass(frozen=True)
class Duplicate:
    """A row with the same content as an earlier one.

    Attributes:
        id: the row's id.
        of: the id of the first row with this content.
        where: the file and the line or row number.
        kept: True when the row has an id of its own and stays; False when it was left out.
    """

    id: str
    of: str
    where: str
    kept: bool


@dataclass(frozen=True)
class Content:
    """What a row says, apart from its id.

    Attributes:
        fields: see ``Example``, and so are the others.
        references: accepted answers; the first one is learned.
        messages: the conversation.
        tools: what it may call.
        system: see ``Example``.
    """

    fields: Mapping[str, str]
    references: tuple[str, ...]
    messages: tuple[Message, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    system: str | None = None


def pack(where: str, content: Content, group: str, columns: Mapping[str, str]) -> bytes:
    """A row as bytes: JSON, which gives back whatever a source can hold.

    Args:
        where: the file and the line or row number.
        content: what the row says.
        group: see ``Example``.
        columns: see ``Example``.
    """
    turns = [(turn.role, turn.content, turn.extra, turn.learned) for turn in content.messages]
    system = () if content.system is None else (content.system,)
    said = (content.fields, content.references, turns, content.tools, *system)
    return _JSON.encode((where, group, columns, said)).encode("utf-8", "surrogatepass")


class StoredExamples(Sequence[Example]):
    """Examples in a table; equal to any sequence of the same examples.

    Args:
        table: ids and examples.
        rows: which rows of it these are, rising.
    """

    def __init__(self, table: pa.Table, rows: IntArray) -> None:
        self._batches = table.to_batches()
        self._starts = np.cumsum([0, *map(len, self._batches)])
        self._table = table
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            positions = np.arange(len(self))[index]
            if len(positions) > 1 and index.step is not None and index.step < 0:
                return tuple(self[int(place)] for place in positions)
            return self.take(positions)
        place = range(len(self))[operator.index(index)]
        return next(self._made(self._rows[place : place + 1]))

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), ROWS_AT_ONCE):
            yield from self._made(self._rows[start : start + ROWS_AT_ONCE])

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"StoredExamples, {len(self)} of them"

    def take(self, positions: IntArray) -> "StoredExamples":
        """The examples at some positions, rising."""
        chosen = object.__new__(StoredExamples)
        chosen.__dict__.update(vars(self), _rows=self._rows[positions])
        return chosen

    def before(self, rows: Sequence[int]) -> IntArray:
        """How many of them come before each of some rows of the table."""
        return np.searchsorted(self._rows, np.asarray(rows))

    def where(self, place: int) -> str:
        """The file and the line or row number of one of them."""
        return self._unpacked(place)[0]

    def same(self, place: int, other: int) -> bool:
        """Whether two of them say the same, whatever order their keys are in."""
        one, two = (_SORTED.encode(self._unpacked(row)[-1]) for row in (place, other))
        return one == two

    def _unpacked(self, place: int) -> tuple[str, str, dict[str, str], list[Any]]:
        return _unpacked(self._table["example"][int(self._rows[place])].as_py())

    @property
    def ids(self) -> Ids:
        """Their ids."""
        if len(self) == self._table.num_rows:
            return Ids(self._table["id"])
        chunks = [part.column(0) for part in self._parts(self._rows)]
        return Ids(pa.chunked_array(chunks, pa.string()))

    def _parts(self, rows: IntArray) -> Iterator[pa.RecordBatch]:
        """Rising rows of the table, as parts of its batches."""
        starts = self._starts
        first = int(np.searchsorted(starts, rows[0], "right")) - 1 if len(rows) else 0
        done = 0
        for number in range(first, len(self._batches)):
            if done == len(rows):
                return
            stop = int(np.searchsorted(rows, starts[number + 1]))
            here = rows[done:stop] - starts[number]
            if len(here) and here[-1] - here[0] == len(here) - 1:
                yield self._batches[number].slice(int(here[0]), len(here))
            elif len(here):
                yield self._batches[number].take(pa.array(here))
            done = stop

    def _made(self, rows: IntArray) -> Iterator[Example]:
        for part in self._parts(rows):
            names, packed = (column.to_pylist() for column in part.columns)
            yield from map(_example, names, packed)


class StoredDuplicates(Sequence[Duplicate]):
    """Duplicates among the rows of a table; equal to any sequence of the same ones.

    Args:
        everything: all rows.
        rows: which of them are duplicates, rising.
        first: for each of these the first row with the same content.
        kept: whether each of them stays.
    """

    def __init__(
        self, everything: StoredExamples, rows: IntArray, first: IntArray, kept: NDArray[np.bool_]
    ) -> None:
        self._everything = everything
        self._rows, self._first, self._kept = rows, first, kept

    @property
    def num_left_out(self) -> int:
        """How many do not stay."""
        return len(self._kept) - int(self._kept.sum())

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Duplicate: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Duplicate]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[place] for place in range(len(self))[index])
        place = range(len(self))[operator.index(index)]
        row, first = int(self._rows[place]), int(self._first[place])
        return Duplicate(
            id=self._everything[row].id,
            of=self._everything[first].id,
            where=self._everything.where(row),
            kept=bool(self._kept[place]),
        )

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"StoredDuplicates, {len(self)} of them"


def _equal(one: Sequence[Any], other: object) -> bool:
    if not isinstance(other, Sequence) or isinstance(other, str):
        return NotImplemented
    return len(one) == len(other) and all(map(operator.eq, one, other))


def _unpacked(packed: bytes) -> tuple[str, str, dict[str, str], list[Any]]:
    """Where a row is, its group, its columns, and what it says."""
    return json.loads(packed.decode("utf-8", "surrogatepass"))


def _example(example_id: str, packed: bytes) -> Example:
    _, group, columns, (fields, references, turns, tools, *system) = _unpacked(packed)
    return Example(
        id=example_id,
        fields=fields,
        completion=references[0] if references else "",
        references=tuple(references),
        messages=tuple(Message(*turn) for turn in turns),
        group=group,
        tools=tuple(tools),
        columns=columns,
        system=system[0] if system else None,
    )
