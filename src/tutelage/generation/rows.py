"""A prompt on its way to an answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.generation.drawing import private_stream


@dataclass
class Row:
    """A prompt and what is written after it.

    Attributes:
        place: number of the prompt.
        prompt: its tokens.
        limit: most tokens that may follow, one at least.
        stream: what they are drawn with, one by one; empty where nothing is drawn.
        tokens: those that follow, up to the end of the answer or a little beyond.
        notes: what their chooser noted of each of them, some tokens at a time; empty where it
            notes nothing.
    """

    place: int
    prompt: tuple[int, ...]
    limit: int
    stream: NDArray[np.float64]
    tokens: list[int] = field(default_factory=list)
    notes: list[Tensor] = field(default_factory=list)

    @property
    def longest(self) -> int:
        """Tokens of the prompt with its longest answer."""
        return len(self.prompt) + self.limit

    def noted(self, count: int) -> Tensor:
        """What was noted of the first tokens, shape ``[count, ...]``.

        Args:
            count: how many; where any was chosen, so that something was noted.
        """
        return torch.cat(self.notes)[:count]

    @property
    def read(self) -> int:
        """Tokens that a cache holds: all but the latest."""
        return len(self.prompt) + len(self.tokens) - 1


def rows_of(
    prompts: Sequence[Sequence[int]], limits: Sequence[int], seeds: Sequence[int], *, greedy: bool
) -> list[Row]:
    """Rows of prompts that have room for an answer.

    Args:
        prompts: the tokens of each.
        limits: most tokens that may follow each.
        seeds: of what is drawn for each.
        greedy: draw nothing.
    """
    rows = []
    for place, (prompt, limit, seed) in enumerate(zip(prompts, limits, seeds, strict=True)):
        if limit:
            stream = private_stream(seed, prompt, 0 if greedy else limit)
            rows.append(Row(place, tuple(prompt), limit, stream))
    return rows


def streams_of(rows: Sequence[Row]) -> NDArray[np.float64]:
    """The streams of rows as one array, zeros after the end of each.

    It has a column more than any row is drawn with: rows that have ended draw with what is there.
    """
    longest = max((len(row.stream) for row in rows), default=0)
    streams_BL = np.zeros((len(rows), longest + 1))
    for number, row in enumerate(rows):
        streams_BL[number, : len(row.stream)] = row.stream
    return streams_BL
