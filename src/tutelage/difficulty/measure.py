"""Measure difficulty: run the untrained student over the data once."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.data.collate import collate, length_batches, packed_batches
from tutelage.data.lengths import count_tokens
from tutelage.difficulty.measurements import ExampleLosses
from tutelage.models.head import batch_hidden, logit_transform
from tutelage.models.packing import packing
from tutelage.models.projection import projection
from tutelage.numerics import as_float, expectation

TILE_TOKENS = 1024
"""Response tokens whose logits are in memory at once."""

CPU_SOFTMAX_TOKENS = 8
"""Tokens of one softmax on a CPU, whose logits are then still in its cache for what follows."""


@torch.no_grad()
def example_losses(
    model: nn.Module,
    rows: Any,
    *,
    vocab_size: int,
    pad_token_id: int = 0,
    batch_tokens: int = 8192,
    autocast_dtype: torch.dtype | None = None,
    entropies: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ExampleLosses:
    """Cross-entropy of every row's response tokens, summed by row.

    Rows share a batch, without padding where the model ``supports_packing``; the result is by row,
    in the order of ``rows``, and does not depend on the batches beyond rounding.

    Args:
        model: the student; it is put in evaluation mode for the time.
        rows: a data set with ``input_ids`` and ``labels``.
        vocab_size: number of real tokens.
        pad_token_id: fills the batches; it is masked out.
        batch_tokens: tokens of a batch, padding included if there is any.
        autocast_dtype: type of the matrix products; the softmax is in float32.
        entropies: add up the entropies of the predictions too.
        progress: called with (tokens done, tokens in all).
    """
    lengths = count_tokens(rows)
    rows = rows.select_columns(["input_ids", "labels"])
    loss_sums, entropy_sums = np.zeros(len(lengths)), np.zeros(len(lengths))
    num_tokens = np.zeros(len(lengths), dtype=np.int64)
    was_training = model.training
    model.eval()
    done, total = 0, int(lengths.sum())
    try:
        with packing(model, longest=int(lengths.max(initial=0))) as packed:
            batches = packed_batches if packed else length_batches
            for batch in batches(lengths, max_tokens=batch_tokens):
                inputs = collate([rows[i] for i in batch], pad_token_id)
                row_N, losses_N, entropies_N = _batch_losses(
                    model, inputs, vocab_size, autocast_dtype, packed, entropies
                )
                for sums, of_tokens in ((loss_sums, losses_N), (entropy_sums, entropies_N)):
                    weights = of_tokens.double().cpu().numpy()
                    sums[batch] = np.bincount(row_N, weights=weights, minlength=len(batch))
                num_tokens[batch] = np.bincount(row_N, minlength=len(batch))
                done += int(lengths[batch].sum())
                if progress is not None:
                    progress(done, total)
    finally:
        model.train(was_training)
    return ExampleLosses(loss_sums, num_tokens, entropy_sums if entropies else None)


def _batch_losses(
    model: nn.Module,
    inputs: dict[str, Tensor],
    vocab_size: int,
    autocast_dtype: torch.dtype | None,
    packed: bool,
    entropies: bool,
) -> tuple[np.ndarray, Tensor, Tensor]:
    """For each response token of a batch: its row, its loss and the entropy of its prediction."""
    device = next(model.parameters()).device
    with torch.autocast(device.type, autocast_dtype, enabled=autocast_dtype is not None):
        hidden_NH, targets_N = batch_hidden(model, inputs, packed=packed)
        losses_N, entropies_N = _token_losses(
            model, hidden_NH, targets_N, vocab_size, autocast_dtype, entropies
        )
    row_N = (inputs["labels"][:, 1:] != -100).nonzero()[:, 0].numpy()
    return row_N, losses_N, entropies_N


def _token_losses(
    model: nn.Module,
    hidden_NH: Tensor,
    targets_N: Tensor,
    vocab_size: int,
    autocast_dtype: torch.dtype | None,
    entropies: bool,
) -> tuple[Tensor, Tensor]:
    """Negative log-probability of each target, and entropy of each prediction (0 when not asked).

    Both in nats, shape ``[N]``, made a tile at a time.
    """
    losses_N = as_float(hidden_NH.new_zeros(len(targets_N)))
    entropies_N = torch.zeros_like(losses_N)
    head = projection(model, vocab_size, autocast_dtype)
    transform = logit_transform(model)
    few = CPU_SOFTMAX_TOKENS if hidden_NH.device.type == "cpu" else TILE_TOKENS
    for start in range(0, len(targets_N), TILE_TOKENS):
        logits_nV = head.logits(hidden_NH[start : start + TILE_TOKENS])
        for first in range(0, len(logits_nV), few):
            logp_rV = transform(as_float(logits_nV[first : first + few])).log_softmax(-1)
            block = slice(start + first, start + first + len(logp_rV))
            losses_N[block] = -logp_rV.gather(-1, targets_N[block].unsqueeze(-1)).squeeze(-1)
            if entropies:
                entropies_N[block] = -expectation(logp_rV, logp_rV)
    return losses_N, entropies_N
