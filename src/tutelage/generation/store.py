"""Texts that teachers wrote, kept by example id so that nobody has to write them twice."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tutelage.errors import RunFolderError
from tutelage.files import disk_errors
from tutelage.proofs import fingerprint, read_sealed, write_sealed


@dataclass(frozen=True)
class WrittenText:
    """One answer to one prompt.

    Attributes:
        id: the example's id.
        sample: number of the answer among those to the same prompt, from 0.
        text: the answer.
        writer: name of the teacher.
        num_tokens: in the teacher's tokens, the end-of-sequence token included.
        truncated: whether the length limit ended it.
        score: what a verifier gave it, in [0, 1]; None when nobody judged it.
        seed: what it was drawn with, for this prompt alone.
        sampling_temperature: 0 for greedy.
        tokens: the teacher's tokens without what ended them; texts of older versions have none, nor
            do those that a stop string may have ended.
    """

    id: str
    sample: int
    text: str
    writer: str
    num_tokens: int
    truncated: bool
    score: float | None
    seed: int
    sampling_temperature: float
    tokens: tuple[int, ...] = ()

    @property
    def right(self) -> bool | None:
        """Whether the verifier gave it a half or more; a cut answer is wrong. None: unjudged."""
        return None if self.score is None else self.score >= 0.5 and not self.truncated


class TextStore:
    """A folder with a manifest and a file of texts that only ever grows.

    Each line of ``texts.jsonl`` is one chunk, a list of texts with its checksum, written at once:
    a chunk is there wholly or not at all. A line that a kill cut short is passed over, and removed
    by the next ``add``. Several processes may use one store: they take turns at writing, each text
    is kept once, and the first one written stays.

    Args:
        path: the folder; made when it is not there.
        inputs: plain values that say what made the texts (writer, prompt, sampling, verifier).

    Raises:
        RunFolderError: the folder's texts were made from other inputs, a line of it is damaged, or
            the disk is full.
    """

    def __init__(self, path: str | Path, inputs: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._file = self.path / "texts.jsonl"
        self._texts: dict[tuple[str, int], WrittenText] = {}
        self._lines = 0
        self._end = 0  # of the last whole line that was read or written, in bytes
        self._claim(dict(inputs))
        self.read_on()

    def _claim(self, inputs: dict[str, Any]) -> None:
        """Write the manifest, or compare with the one that is there."""
        manifest = self.path / "manifest.json"
        found = read_sealed(manifest)
        if found is None and self._file.exists():
            # Another process may have claimed the folder since: its manifest is there before texts.
            found = read_sealed(manifest)
            if found is None:
                raise RunFolderError(
                    f"'{self.path}' holds texts without the manifest that says what made them, or"
                    " with a damaged one. Choose another folder, or remove this one."
                )
        if found is None:
            write_sealed(manifest, {"fingerprint": fingerprint(inputs), "inputs": inputs})
            return
        if found["fingerprint"] == fingerprint(inputs):
            return
        names = sorted({*found["inputs"], *inputs})
        differing = [
            name
            for name in names
            if fingerprint(found["inputs"].get(name)) != fingerprint(inputs.get(name))
        ]
        raise RunFolderError(
            f"The texts in '{self.path}' were made by another teacher, prompt or setting (what"
            f" differs: {', '.join(differing)}). Texts of two kinds must not mix: choose another"
            " folder, or remove this one."
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
                    texts = _unsealed(json.loads(line))
                except (ValueError, TypeError, LookupError) as error:
                    raise RunFolderError(
                        f"'{self._file}', line {self._lines + 1} is damaged: {error}. Delete this"
                        " line: its texts are written again, and all others stay."
                    ) from error
                self._keep(texts, len(line))

    def _keep(self, texts: Iterable[WrittenText], size: int) -> None:
        """Note the texts of a line of so many bytes."""
        for text in texts:
            self._texts.setdefault((text.id, text.sample), text)
        self._lines += 1
        self._end += size

    def add(self, chunk: Sequence[WrittenText]) -> None:
        """Write a chunk to the disk for good; texts that are there already stay as they are.

        Raises:
            RunFolderError: the disk is full; the store is as it was before.
        """
        # Without a buffer, which would try again to write when the file is closed.
        with disk_errors(self._file), self._file.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # given back when the file is closed
            self.read_on()
            new: dict[tuple[str, int], WrittenText] = {}
            for text in chunk:
                if (text.id, text.sample) not in self._texts:
                    new.setdefault((text.id, text.sample), text)
            if not new:
                return
            rows = [asdict(text) for text in new.values()]
            sealed = {"seal": fingerprint(rows)[:16], "texts": rows}
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

    def get(self, example_id: str, sample: int = 0) -> WrittenText | None:
        """A text, or None when it is not written."""
        return self._texts.get((example_id, sample))

    def missing(self, ids: Iterable[str], sample: int = 0) -> list[str]:
        """Ids without a text of this number, in order."""
        return [example_id for example_id in ids if (example_id, sample) not in self._texts]

    def __iter__(self) -> Iterator[WrittenText]:
        return iter(list(self._texts.values()))

    def __len__(self) -> int:
        return len(self._texts)


def _unsealed(line: Any) -> list[WrittenText]:
    """The texts of a line.

    Raises:
        ValueError: their checksum is another one.
        TypeError: this is no such line.
        LookupError: the same.
    """
    if line["seal"] != fingerprint(line["texts"])[:16]:
        raise ValueError("its content does not match its checksum")
    return [WrittenText(**{**row, "tokens": tuple(row.get("tokens", ()))}) for row in line["texts"]]
