"""Folders of rows that only ever grow, so that a kill loses nothing that was written."""

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tutelage.errors import RunFolderError
from tutelage.files import disk_errors
from tutelage.proofs import fingerprint, read_sealed, write_sealed

Row = TypeVar("Row")


@dataclass(frozen=True)
class RowKind(Generic[Row]):
    """What the rows of a folder are.

    Attributes:
        name: in the plural; the name of the file and of the list in each line.
        key: what a row is found by; of two rows with one key the first that was written stays.
        to_json: a row as plain values.
        from_json: the row again; raises TypeError, ValueError or LookupError for anything else.
        origin: for messages, what makes such rows besides settings, as in "teacher, prompt".
    """

    name: str
    key: Callable[[Row], Hashable]
    to_json: Callable[[Row], Any]
    from_json: Callable[[Any], Row]
    origin: str = "model"


class GrowingRows(Generic[Row]):
    """A folder with a manifest and a file of rows that only ever grows.

    Each line of the file is one chunk, a list of rows with its checksum, written at once: a chunk
    is there wholly or not at all. A line that a kill cut short is passed over, and removed by the
    next ``add``. Several processes may use one folder: they take turns at writing, each row is kept
    once, and the first one written stays.

    Args:
        path: the folder; made when it is not there.
        inputs: plain values that say what made the rows.
        kind: what they are.

    Raises:
        RunFolderError: the folder's rows were made from other inputs, a line of it is damaged, or
            the disk is full.
    """

    def __init__(self, path: str | Path, inputs: Mapping[str, Any], kind: RowKind[Row]) -> None:
        self.path = Path(path)
        self.kind = kind
        self._file = self.path / f"{kind.name}.jsonl"
        self._rows: dict[Hashable, Row] = {}
        self._lines = 0
        self._end = 0  # of the last whole line that was read or written, in bytes
        self._claim(dict(inputs))
        self.read_on()

    def _claim(self, inputs: dict[str, Any]) -> None:
        """Write the manifest, or compare with the one that is there."""
        manifest, name = self.path / "manifest.json", self.kind.name
        found = read_sealed(manifest)
        if found is None and self._file.exists():
            # Another process may have claimed the folder since: its manifest is there before rows.
            found = read_sealed(manifest)
            if found is None:
                raise RunFolderError(
                    f"'{self.path}' holds {name} without the manifest that says what made them, or"
                    " with a damaged one. Choose another folder, or remove this one."
                )
        if found is None:
            write_sealed(manifest, {"fingerprint": fingerprint(inputs), "inputs": inputs})
            return
        if found["fingerprint"] == fingerprint(inputs):
            return
        differing = [
            one
            for one in sorted({*found["inputs"], *inputs})
            if fingerprint(found["inputs"].get(one)) != fingerprint(inputs.get(one))
        ]
        raise RunFolderError(
            f"The {name} in '{self.path}' were made by another {self.kind.origin} or setting (what"
            f" differs: {', '.join(differing)}). {name.capitalize()} of two kinds must not mix:"
            " choose another folder, or remove this one."
        )

    def read_on(self) -> None:
        """Read the whole lines that follow those already read: other processes write too."""
        if not self._file.exists():
            return
        with self._file.open("rb") as file:
            file.seek(self._end)
            # Lines end at the byte \n alone: a kill may cut a character, and texts hold others.
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    rows = self._unsealed(json.loads(line))
                except (ValueError, TypeError, LookupError) as error:
                    raise RunFolderError(
                        f"'{self._file}', line {self._lines + 1} is damaged: {error}. Delete this"
                        f" line: its {self.kind.name} are written again, and all others stay."
                    ) from error
                self._keep(rows, len(line))

    def _unsealed(self, line: Any) -> list[Row]:
        """The rows of a line, whose checksum must be theirs."""
        rows = line[self.kind.name]
        if line["seal"] != fingerprint(rows)[:16]:
            raise ValueError("its content does not match its checksum")
        return [self.kind.from_json(row) for row in rows]

    def _keep(self, rows: Iterable[Row], size: int) -> None:
        """Note the rows of a line of so many bytes."""
        for row in rows:
            self._rows.setdefault(self.kind.key(row), row)
        self._lines += 1
        self._end += size

    def add(self, chunk: Sequence[Row]) -> None:
        """Write a chunk to the disk for good; rows that are there already stay as they are.

        Raises:
            RunFolderError: the disk is full; the folder is as it was before.
        """
        # Without a buffer, which would try again to write when the file is closed.
        with disk_errors(self._file), self._file.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed
            self.read_on()
            new: dict[Hashable, Row] = {}
            for row in chunk:
                if self.kind.key(row) not in self._rows:
                    new.setdefault(self.kind.key(row), row)
            if not new:
                return
            plain = [self.kind.to_json(row) for row in new.values()]
            sealed = {"seal": fingerprint(plain)[:16], self.kind.name: plain}
            line = (json.dumps(sealed, ensure_ascii=False) + "\n").encode("utf-8")
            file.truncate(self._end)  # what a killed process left behind the last whole line
            try:
                rest = memoryview(line)
                while rest:
                    rest = rest[os.write(file.fileno(), rest) :]
                os.fsync(file.fileno())
            except BaseException:
                # Half a line would swallow the one that comes after it.
                with contextlib.suppress(OSError):
                    file.truncate(self._end)
                raise
            self._keep(new.values(), len(line))

    def find(self, key: Hashable) -> Row | None:
        """The row of a key, or None when it is not there."""
        return self._rows.get(key)

    def __iter__(self) -> Iterator[Row]:
        return iter(list(self._rows.values()))

    def __len__(self) -> int:
        return len(self._rows)
