"""Several teachers that speak with one voice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.targets import mix_teachers
from tutelage.teachers.signal import TeacherSignal, TeacherTile
from tutelage.teachers.store.signal import StoredTeacher


@dataclass(frozen=True)
class MixedTile:
    """Tiles of several teachers for the same tokens.

    Attributes:
        tiles: one of each teacher.
        weights: one for each.
        space: where they are mixed.
    """

    tiles: Sequence[TeacherTile]
    weights: Sequence[float]
    space: str

    kept_nK = None

    def log_probs(self, rows: slice, temperature: float) -> Tensor:
        """The mixture of the teachers' distributions, each at the temperature, ``[r, V]``."""
        logps = [tile.log_probs(rows, temperature) for tile in self.tiles]
        return mix_teachers(logps, self.weights, space=self.space)


class EnsembleTeacher:
    """A weighted mixture of teachers as one signal; all of them are in memory.

    Args:
        teachers: signals over the same vocabulary.
        weights: positive, one for each; they are divided by their sum.
        space: ``"probability"`` or ``"logit"``; see ``targets.mix_teachers``.
    """

    def __init__(
        self, teachers: Sequence[TeacherSignal], weights: Sequence[float], space: str
    ) -> None:
        self._teachers = list(teachers)
        self._weights = list(weights)
        self._space = space
        self._widths: list[int] = []

    def encode(
        self, ids: Sequence[str], input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> Tensor:
        """The teachers' hidden states side by side, shape ``[N, sum of H]``."""
        parts = [one.encode(ids, input_ids, attention_mask, labels) for one in self._teachers]
        self._widths = [part.shape[-1] for part in parts]
        return torch.cat(parts, dim=-1)

    def expect(
        self, ids: Sequence[str], input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> None:
        """Let those teachers that are stored begin to read what ``encode`` will be asked."""
        for one in self._teachers:
            if isinstance(one, StoredTeacher):
                one.expect(ids, input_ids, attention_mask, labels)

    def close(self) -> None:
        """Read nothing ahead any more."""
        for one in self._teachers:
            if isinstance(one, StoredTeacher):
                one.close()

    def tiles(self, hidden_NH: Tensor, tile_tokens: int) -> Iterator[MixedTile]:
        """Tiles of all teachers together.

        Raises:
            ConfigError: a teacher tells only some tokens apart, so there is nothing to mix.
        """
        parts = hidden_NH.split(self._widths, dim=-1)
        every = [
            teacher.tiles(part, tile_tokens)
            for teacher, part in zip(self._teachers, parts, strict=True)
        ]
        for tiles in zip(*every, strict=True):
            if any(tile.kept_nK is not None for tile in tiles):
                raise ConfigError(
                    "A teacher of this ensemble keeps its likeliest tokens alone, and different"
                    " teachers keep different ones. Mix teachers that say something of all tokens."
                )
            yield MixedTile(tiles, self._weights, self._space)
