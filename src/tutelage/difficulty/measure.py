"""Measure difficulty: run the untrained student over the data once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutelage.data.collate import collate, length_batches
from tutelage.models.head import head_logits, response_hidden

TILE_TOKENS = 1024
"""Response tokens whose logits are in memory at once."""


@dataclass(frozen=True)
class ExampleLosses:
    """What the student lost on each answer.

    Attributes:
        loss_sums: summed negative log-probability in nats, float64, shape ``[N]``.
        num_tokens: response tokens, int64, shape ``[N]``.
    """

    loss_sums: NDArray[np.float64]
    num_tokens: NDArray[np.int64]


@torch.no_grad()
def example_losses(
    model: nn.Module,
    rows: Any,
    *,
    vocab_size: int,
    pad_token_id: int = 0,
    batch_tokens: int = 8192,
    autocast_dtype: torch.dtype | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ExampleLosses:
    """Cross-entropy of every row's response tokens, summed by row.

    Rows of similar length share a batch; the result is by row, in the order of ``rows``, and does
    not depend on the batches beyond rounding.

    Args:
        model: the student; it is put in evaluation mode for the time.
        rows: a data set with ``input_ids`` and ``labels``.
        vocab_size: number of real tokens.
        pad_token_id: fills the batches; it is masked out.
        batch_tokens: tokens of a batch, padding included.
        autocast_dtype: type of the matrix products; the softmax is in float32.
        progress: called with (tokens done, tokens in all).
    """
    lengths = [len(tokens) for tokens in rows["input_ids"]]
    loss_sums = np.zeros(len(lengths))
    num_tokens = np.zeros(len(lengths), dtype=np.int64)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    done, total = 0, sum(lengths)
    try:
        for batch in length_batches(lengths, max_tokens=batch_tokens):
            inputs = {
                name: tensor.to(device)
                for name, tensor in collate([rows[i] for i in batch], pad_token_id).items()
            }
            with torch.autocast(device.type, autocast_dtype, enabled=autocast_dtype is not None):
                hidden_NH, targets_N = response_hidden(
                    model, inputs["input_ids"], inputs["attention_mask"], inputs["labels"]
                )
                losses_N = _token_losses(model, hidden_NH, targets_N, vocab_size)
            row_N = (inputs["labels"][:, 1:] != -100).nonzero()[:, 0].cpu().numpy()
            loss_sums[batch] = np.bincount(
                row_N, weights=losses_N.double().cpu().numpy(), minlength=len(batch)
            )
            num_tokens[batch] = np.bincount(row_N, minlength=len(batch))
            done += sum(lengths[i] for i in batch)
            if progress is not None:
                progress(done, total)
    finally:
        model.train(was_training)
    return ExampleLosses(loss_sums, num_tokens)


def _token_losses(
    model: nn.Module, hidden_NH: Tensor, targets_N: Tensor, vocab_size: int
) -> Tensor:
    """Negative log-probability of each target in nats, shape ``[N]``, a tile at a time."""
    parts = [
        nn.functional.cross_entropy(
            head_logits(model, hidden_NH[start : start + TILE_TOKENS], vocab_size),
            targets_N[start : start + TILE_TOKENS],
            reduction="none",
        )
        for start in range(0, len(targets_N), TILE_TOKENS)
    ]
    return torch.cat(parts) if parts else hidden_NH.new_zeros(0, dtype=torch.float32)
