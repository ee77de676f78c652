"""Files of questions as they are distributed: which column is which, ids, and what goes together.

A suite says by which names each of its columns is known, so that nobody converts a file before it
can be read. What is missing is told once, with what is wanted, what is there, and where.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutelage.data.read import read_rows
from tutelage.data.row import Row, wrong_type
from tutelage.errors import DataError, did_you_mean
from tutelage.proofs import fingerprint

IDS = ("id", "qid", "question_id", "unique_id", "task_id")
"""Names of a column with ids; without one, ids are made from what is asked."""

_ID_DIGITS = 16


@dataclass(frozen=True)
class Layout:
    """The columns that a suite reads.

    Attributes:
        suite: its name, for messages.
        needed: our name of a column -> the names that it has in files, the first that is there
            counts.
        optional: the same of columns that a file need not have.
    """

    suite: str
    needed: Mapping[str, Sequence[str]]
    optional: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def read(self, data: str, *, group: str = "") -> Iterator["Entry"]:
        """The rows of a file.

        Args:
            data: the file, or whatever else training data may be read from.
            group: the column by which scores are reported apart, in place of the usual one.

        Raises:
            DataError: the file cannot be read, has no rows, or lacks a column.
        """
        named = [*self.needed.values(), *self.optional.values(), (group,), IDS]
        wanted = [name for names in named for name in names]
        empty = True
        for row in read_rows(data, "test", wanted):
            yield self.entry(row, group)
            empty = False
        if empty:
            raise DataError(f"'{data}' has no rows, so there is nothing to ask. Check the file.")

    def entry(self, row: Row, group: str = "") -> "Entry":
        """A row by our names.

        Args:
            row: of a file.
            group: as for :meth:`read`.

        Raises:
            DataError: a column is not there.
        """
        names = {**self.needed, **self.optional}
        if group:
            names["group"] = (group,)
        if group and group not in row.columns:
            raise DataError(
                f"{row.where}: there is no column '{group}' to report scores by."
                f"{did_you_mean(group, row.found)} The columns are {', '.join(row.found)}."
            )
        found: dict[str, str] = {}
        for ours, theirs in names.items():
            present = [name for name in theirs if row.columns.get(name) is not None]
            if present:
                found[ours] = present[0]
        missing = [ours for ours in self.needed if ours not in found]
        if missing:
            raise DataError(
                f"{row.where}: the suite '{self.suite}' finds no column for {_listed(missing)}."
                f" It reads {self._described()}. The columns are"
                f" {', '.join(row.found) or 'none'}. Rename what is called otherwise."
            )
        return Entry(row, found)

    def _described(self) -> str:
        """All needed columns with their names."""
        return _listed(
            f"{ours} ({' or '.join(names)})" if list(names) != [ours] else ours
            for ours, names in self.needed.items()
        )


def _listed(words: Any) -> str:
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


@dataclass(frozen=True)
class Entry:
    """A row of a file of questions.

    Attributes:
        row: the row, with its place.
        names: our name of a column -> its name in the file.
    """

    row: Row
    names: Mapping[str, str]

    def value(self, name: str) -> Any:
        """What a column holds; None where the row has none."""
        return self.row.columns.get(self.names[name]) if name in self.names else None

    def text(self, name: str, *, empty: bool = False) -> str:
        """The text in a column; numbers are written out.

        Raises:
            DataError: it is none, or it is empty and may not be.
        """
        value = self.value(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = f"{value:g}" if isinstance(value, float) else str(value)
        if value is None and empty:
            return ""
        if not isinstance(value, str):
            raise self.wrong(name, "text")
        if not value.strip() and not empty:
            raise DataError(
                f"{self.row.where}: the column '{self.names[name]}' is empty. Fill it or remove the"
                " row."
            )
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """One text or a list of them, none of which is empty."""
        value = self.value(name)
        if not isinstance(value, list):
            return (self.text(name),)
        if not value or not all(isinstance(one, str) and one.strip() for one in value):
            raise self.wrong(name, "a text or a list of texts that are not empty")
        return tuple(value)

    def label(self, name: str) -> str:
        """A label for reports; empty where the row has none."""
        value = self.value(name)
        return "" if value is None else str(value)

    def wrong(self, name: str, expected: str) -> DataError:
        """The error for a value that is something else."""
        return wrong_type(self.row, self.names.get(name, name), self.value(name), expected)

    @property
    def own_id(self) -> str:
        """The id that the file gives; empty when it gives none."""
        for name in IDS:
            value = self.row.columns.get(name)
            if value is not None and not isinstance(value, bool) and str(value).strip():
                return str(value)
        return ""


class Names:
    """Gives each question its id: the file's own, or a hash of what is asked.

    Rows that say the same are told apart by a number, so that no order of the rows changes the
    ids that there are.
    """

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def of(self, entry: Entry, *content: Any) -> str:
        """The id of a row.

        Args:
            entry: the row.
            content: what is asked and what is right, as JSON has it.
        """
        if entry.own_id:
            return entry.own_id
        made = fingerprint(list(content))[:_ID_DIGITS]
        self._seen[made] += 1
        return made if self._seen[made] == 1 else f"{made}-{self._seen[made]}"


def cluster_of(shared: str) -> str:
    """The name of what several questions share, such as a passage; empty for nothing."""
    return fingerprint(shared)[:_ID_DIGITS] if shared.strip() else ""
