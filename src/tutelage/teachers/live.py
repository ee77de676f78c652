"""A teacher that runs beside the student."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tutelage.models.head import head_logits, response_hidden


class LiveTeacher:
    """The signal of a model in memory; it is frozen, in evaluation mode and never trained.

    Args:
        model: a causal language model.
        vocab_size: number of real tokens that it shares with the student.
        autocast_dtype: run the teacher's matrix products in this type; None for its own.
    """

    def __init__(
        self, model: nn.Module, vocab_size: int, autocast_dtype: torch.dtype | None = None
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.vocab_size = vocab_size
        self._autocast_dtype = autocast_dtype
        self._device_type = next(model.parameters()).device.type

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self._device_type, self._autocast_dtype, enabled=self._autocast_dtype is not None
        )

    @torch.no_grad()
    def hidden(
        self, ids: Sequence[str], input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> Tensor:
        """Hidden states that predict the response tokens, shape ``[N, H]``; ids are not needed."""
        with self._autocast():
            hidden_NH, _ = response_hidden(self.model, input_ids, attention_mask, labels)
        return hidden_NH

    @torch.no_grad()
    def log_probs(self, hidden_NH: Tensor, temperature: float) -> Tensor:
        """Float32 log-probabilities over the real vocabulary, shape ``[n, V]``."""
        with self._autocast():
            logits_nV = head_logits(self.model, hidden_NH, self.vocab_size)
        return (logits_nV / temperature).log_softmax(-1)
