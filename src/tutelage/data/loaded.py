"""The examples of a source once they are read: ids that are unique, and copies that are named."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tutelage.data.sources import SourceRows
from tutelage.data.spool import Spool
from tutelage.data.stored import (
    ROWS_AT_ONCE,
    SCHEMA,
    Content,
    Duplicate,
    StoredDuplicates,
    StoredExamples,
    pack,
)
from tutelage.errors import DataError
from tutelage.ids import Ids, IntArray, index_type
from tutelage.types import Example

_BYTES = 1 << 22
"""A batch of long examples ends when it has so many bytes."""


@dataclass(frozen=True)
class LoadedExamples:
    """The examples of one data set.

    Attributes:
        examples: in the order of the file; ids are unique. Those that were read are made when they
            are looked at, and any number of them takes little memory.
        duplicates: every row of the source whose content occurred before, and what became of it.
        sources: where the rows of each are, when there are several.
    """

    examples: Sequence[Example]
    duplicates: Sequence[Duplicate] = ()
    sources: Sequence[SourceRows] = ()

    @property
    def ids(self) -> Ids:
        """The ids, in the order of the examples."""
        examples = self.examples
        return examples.ids if isinstance(examples, StoredExamples) else Ids(e.id for e in examples)

    @property
    def num_left_out(self) -> int:
        """How many duplicates were left out."""
        rows = self.duplicates
        if isinstance(rows, StoredDuplicates):
            return rows.num_left_out
        return sum(not duplicate.kept for duplicate in rows)

    def select(self, positions: IntArray, *, duplicates: bool) -> "LoadedExamples":
        """Some of the examples.

        Args:
            positions: of the examples, rising.
            duplicates: whether the duplicates go with them.
        """
        examples = self.examples
        if isinstance(examples, StoredExamples):
            chosen: Sequence[Example] = examples.take(positions)
        else:
            chosen = tuple(examples[place] for place in positions.tolist())
        return LoadedExamples(chosen, self.duplicates if duplicates else (), self.sources)

    def by_source(self, kept: Ids | None = None) -> list[dict[str, Any]]:
        """What each of several sources had and gave; empty where there is only one.

        Args:
            kept: ids of the examples that are left of these, in their order; they are counted too.
        """
        examples = self.examples
        if not self.sources or not isinstance(examples, StoredExamples):
            return []
        edges = examples.before([*(one.start for one in self.sources), self.sources[-1].stop])
        counts = {"given": np.diff(edges)}
        if kept is not None:
            counts["kept"] = np.diff(np.searchsorted(self.ids.locate(kept), edges))
        return [
            {
                "source": one.source.title,
                **({} if one.source.weight is None else {"weight": one.source.weight}),
                "had": one.had,
                **{name: int(numbers[place]) for name, numbers in counts.items()},
            }
            for place, one in enumerate(self.sources)
        ]


class ExampleRows:
    """Takes what the rows of a source say, and makes examples with unique ids of it.

    Args:
        folder: where they are when they are many; see ``Spool``.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._spool = Spool(SCHEMA, folder)
        self._ids: list[str] = []
        self._packed: list[bytes] = []
        self._keys: list[int] = []
        self._owns: list[bool] = []
        self._bytes = 0
        self._arrays: list[tuple[NDArray[np.uint64], NDArray[np.bool_]]] = []

    def __len__(self) -> int:
        return len(self._ids) + sum(len(keys) for keys, _ in self._arrays)

    def add(
        self,
        own_id: str | None,
        content: Content,
        digest: str,
        where: str,
        group: str,
        columns: Mapping[str, str],
    ) -> None:
        """Take a row.

        Args:
            own_id: the id that it has in the source; None to make one of the content.
            content: what it says.
            digest: 16 hexadecimal digits of a hash of the content.
            where: the file and the line.
            group: see ``Example``.
            columns: see ``Example``.
        """
        packed = pack(where, content, group, columns)
        self._ids.append(digest if own_id is None else own_id)
        self._packed.append(packed)
        self._keys.append(int(digest, 16))
        self._owns.append(own_id is not None)
        self._bytes += len(packed)
        if len(self._ids) == ROWS_AT_ONCE or self._bytes > _BYTES:
            self._close()

    def _close(self) -> None:
        """Make a batch of the rows that wait."""
        columns = [pa.array(self._ids, pa.string()), pa.array(self._packed, pa.binary())]
        self._spool.add(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
        self._arrays.append((np.array(self._keys, np.uint64), np.array(self._owns, bool)))
        self._ids, self._packed, self._keys, self._owns, self._bytes = [], [], [], [], 0

    def loaded(self) -> LoadedExamples:
        """The examples: exact copies without an id of their own are left out.

        Raises:
            DataError: two rows have one id.
        """
        if self._ids or not self._arrays:
            self._close()
        keys, owns = (np.concatenate(parts) for parts in zip(*self._arrays, strict=True))
        all_rows = np.arange(len(keys), dtype=index_type(len(keys)))
        everything = StoredExamples(self._spool.table(), all_rows)
        rows, first = _copies(keys)
        _check_copies(everything, rows, first)
        stays = np.ones(len(keys), dtype=bool)
        stays[rows] = owns[rows]
        duplicates = StoredDuplicates(everything, rows, first, owns[rows])
        examples = everything.take(np.flatnonzero(stays))
        _check_ids(examples)
        return LoadedExamples(examples, duplicates)


def _copies(keys: NDArray[np.uint64]) -> tuple[IntArray, IntArray]:
    """Rows whose key was there before, rising, and for each the first row that has it."""
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    same = np.concatenate([[False], in_order[1:] == in_order[:-1]])
    if not same.any():
        return order[:0], order[:0]
    first = order[np.maximum.accumulate(np.where(same, 0, np.arange(len(keys))))]
    rows, first = order[same], first[same]
    rising = np.argsort(rows)
    return rows[rising], first[rising]


def _check_copies(examples: StoredExamples, rows: IntArray, first: IntArray) -> None:
    """Refuse two contents with one hash, of which the second would be lost as a copy."""
    for row, before in zip(rows.tolist(), first.tolist(), strict=True):
        if not examples.same(row, before):
            raise DataError(
                f"{examples.where(row)}: the hash of this row's content is by a rare chance that of"
                f" another row, at {examples.where(before)}, so that one would pass for a copy of"
                " the other. Change something in one of them, if only a space."
            )


def _check_ids(examples: StoredExamples) -> None:
    ids = examples.ids
    repeats = ids.repeats()
    if not repeats:
        return
    before, again = np.flatnonzero(ids.equal_to(repeats[0]))[:2].tolist()
    raise DataError(
        f"{examples.where(again)}: the id '{repeats[0]}' was used before, at"
        f" {examples.where(before)}. Ids"
        " must be unique, because scores and cached signals are kept by id. Rename one, or"
        " remove the id column: ids are then made from the content."
    )


def draw_positions(rng: random.Random, count: int, size: int) -> IntArray:
    """``rng.sample(range(count), size)``, and without an object for each of them.

    Args:
        rng: where the draw comes from.
        count: of how many.
        size: how many, at most ``count``.
    """
    # As the library decides whether it remembers what it drew or moves what is left.
    few = 21 + (4 ** ceil(log(size * 3, 4)) if size > 5 else 0)
    if count > few:
        return np.array(rng.sample(range(count), size), dtype=np.int64)
    left = np.arange(count, dtype=np.int64)
    pool: Any = memoryview(left)  # type: ignore[arg-type]
    drawn = np.empty(size, dtype=np.int64)
    taken: Any = memoryview(drawn)  # type: ignore[arg-type]
    for number in range(size):
        place = rng.randrange(count - number)
        taken[number] = pool[place]
        pool[place] = pool[count - number - 1]
    return drawn
