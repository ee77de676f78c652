"""What the loss needs of a teacher, whether it runs beside the student or was stored before."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class TeacherSignal(Protocol):
    """A teacher as two functions: hidden states of a batch, and what a tile of them predicts."""

    def hidden(
        self, ids: Sequence[str], input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> Tensor:
        """Hidden states that predict the response tokens, shape ``[N, H]``, in reading order.

        Args:
            ids: example ids of the rows.
            input_ids: shape ``[B, T]``.
            attention_mask: shape ``[B, T]``.
            labels: shape ``[B, T]``, -100 outside of response tokens.
        """
        ...

    def log_probs(self, hidden_NH: Tensor, temperature: float) -> Tensor:
        """Float32 log-probabilities over the real vocabulary, shape ``[n, V]``.

        Args:
            hidden_NH: some of the states that ``hidden`` gave.
            temperature: divides the logits before the softmax.
        """
        ...
