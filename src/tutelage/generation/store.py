"""Texts that teachers wrote, kept by example id so that nobody has to write them twice."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tutelage.growing import GrowingRows, RowKind


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


def _read(row: Any) -> WrittenText:
    return WrittenText(**{**row, "tokens": tuple(row.get("tokens", ()))})


_TEXTS = RowKind("texts", lambda text: (text.id, text.sample), asdict, _read, "teacher, prompt")


class TextStore(GrowingRows[WrittenText]):
    """A folder of texts; see ``GrowingRows`` for what happens to it.

    Args:
        path: the folder; made when it is not there.
        inputs: plain values that say what made the texts (writer, prompt, sampling, verifier).

    Raises:
        RunFolderError: the folder's texts were made from other inputs, a line of it is damaged, or
            the disk is full.
    """

    def __init__(self, path: str | Path, inputs: Mapping[str, Any]) -> None:
        super().__init__(path, inputs, _TEXTS)

    def get(self, example_id: str, sample: int = 0) -> WrittenText | None:
        """A text, or None when it is not written."""
        return self.find((example_id, sample))

    def missing(self, ids: Iterable[str], sample: int = 0) -> list[str]:
        """Ids without a text of this number, in order."""
        return [example_id for example_id in ids if self.get(example_id, sample) is None]
