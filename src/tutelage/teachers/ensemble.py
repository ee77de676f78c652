"""Several teachers that speak with one voice."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.targets import mix_teachers
from tutelage.teachers.signal import TeacherSignal


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

    def hidden(
        self, ids: Sequence[str], input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> Tensor:
        """The teachers' hidden states side by side, shape ``[N, sum of H]``."""
        parts = [one.hidden(ids, input_ids, attention_mask, labels) for one in self._teachers]
        self._widths = [part.shape[-1] for part in parts]
        return torch.cat(parts, dim=-1)

    def log_probs(self, hidden_NH: Tensor, temperature: float) -> Tensor:
        """The mixture of the teachers' distributions, each at the temperature, ``[n, V]``."""
        parts = hidden_NH.split(self._widths, dim=-1)
        logps = [
            teacher.log_probs(part, temperature)
            for teacher, part in zip(self._teachers, parts, strict=True)
        ]
        return mix_teachers(logps, self._weights, space=self._space)
