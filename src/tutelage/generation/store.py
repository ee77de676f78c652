"""Texts that teachers wrote, kept by example id so that nobody has to write them twice."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tutelage.errors import RunFolderError
from tutelage.files import atomic_write_json, atomic_write_text, disk_errors, fingerprint, read_json


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
        seed: what it was sampled from.
        sampling_temperature: 0 for greedy.
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

    @property
    def right(self) -> bool | None:
        """Whether the verifier gave it a half or more; a cut answer is wrong. None: unjudged."""
        return None if self.score is None else self.score >= 0.5 and not self.truncated


class TextStore:
    """A folder with a manifest and one line for each text, which only ever grows.

    Texts are added in chunks, each written at once; what a kill left of a broken chunk is removed
    when the store is opened again, so a chunk is there wholly or not at all.

    Args:
        path: the folder; made when it is not there.
        inputs: plain values that say what made the texts (writer, prompt, sampling, verifier).

    Raises:
        RunFolderError: the folder's texts were made from other inputs, or the disk is full.
    """

    def __init__(self, path: str | Path, inputs: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._file = self.path / "texts.jsonl"
        manifest = self.path / "manifest.json"
        digest = fingerprint(dict(inputs))
        if manifest.is_file():
            if read_json(manifest)["fingerprint"] != digest:
                raise RunFolderError(
                    f"The texts in '{self.path}' were made by another teacher, prompt or setting."
                    " Choose another folder, or remove this one."
                )
        else:
            with disk_errors(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
            atomic_write_json(manifest, {"fingerprint": digest, "inputs": dict(inputs)})
        self._texts: dict[tuple[str, int], WrittenText] = {}
        self._read()

    def _read(self) -> None:
        if not self._file.exists():
            return
        whole: list[str] = []
        content = self._file.read_text(encoding="utf-8")
        for line in content.split("\n"):
            try:
                chunk = json.loads(line)
            except json.JSONDecodeError:
                break  # cut short by a kill, or the empty end of the file
            whole.append(line)
            self._keep(WrittenText(**row) for row in chunk)
        if content != (kept := "".join(f"{line}\n" for line in whole)):
            atomic_write_text(self._file, kept)

    def _keep(self, texts: Iterable[WrittenText]) -> None:
        for text in texts:
            self._texts[text.id, text.sample] = text

    def add(self, chunk: Sequence[WrittenText]) -> None:
        """Write a chunk to the disk for good.

        Raises:
            RunFolderError: the disk is full; the store is as it was before.
        """
        line = json.dumps([asdict(text) for text in chunk], ensure_ascii=False) + "\n"
        with disk_errors(self._file), self._file.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._keep(chunk)

    def get(self, example_id: str, sample: int = 0) -> WrittenText | None:
        """A text, or None when it is not written."""
        return self._texts.get((example_id, sample))

    def missing(self, ids: Iterable[str], sample: int = 0) -> list[str]:
        """Ids without a text of this number, in order."""
        return [example_id for example_id in ids if (example_id, sample) not in self._texts]

    def __len__(self) -> int:
        return len(self._texts)
