"""Rows of the data as the student answers them: a prompt, and a part of the answer if given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.data.collate import IGNORED


@dataclass(frozen=True)
class Visit:
    """A row of the data that is to be answered.

    Attributes:
        id: of the example.
        place: number of the visit in its step.
        tokens: prompt and answer of the data.
        start: where the answer begins.
    """

    id: str
    place: int
    tokens: tuple[int, ...]
    start: int

    def prompt_with(self, share: float) -> tuple[int, ...]:
        """The prompt with so much of the data's answer, which is never given whole."""
        given = min(int(share * (len(self.tokens) - self.start)), len(self.tokens) - self.start - 1)
        return self.tokens[: self.start + max(given, 0)]


def visits_of(batch: Mapping[str, Any]) -> list[Visit]:
    """The visits of a micro-batch; none for a filler."""
    rows = zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)
    found = []
    for (tokens, labels), example, place in zip(rows, batch["ids"], batch["places"], strict=False):
        learned = [number for number, label in enumerate(labels) if label != IGNORED]
        # Nothing comes before a first token, so it cannot be learned and is given.
        start = max(learned[0], 1)
        found.append(Visit(example, place, tuple(tokens[: learned[-1] + 1]), start))
    return found
