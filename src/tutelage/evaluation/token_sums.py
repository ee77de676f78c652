"""What models make of each token of given texts, added up for each text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutelage.data.collate import collate, length_batches
from tutelage.divergences import forward_kl, reverse_kl
from tutelage.models.finite import check_numbers
from tutelage.models.head import batch_hidden, head_logits

# Shape suffixes: N scored tokens, n those of a tile, V vocabulary, R rows, K numbers.

TILE_TOKENS = 256
"""Scored tokens whose logits are in memory at once."""

BINS = 15
"""Of the calibration: equal widths of the probability of the likeliest token, as in Guo et al."""

NUMBERS = ("tokens", "nll", "entropy", "hits")
"""Of a token: 1, minus its log-probability and the entropy of the distribution (in nats), and
whether the likeliest token is the one that is there."""

AGAINST_TEACHER = ("forward_kl", "reverse_kl", "agreement")
"""KL(teacher || student), KL(student || teacher), and whether the likeliest token is the same."""


@dataclass(frozen=True)
class TokenSums:
    """Sums over the scored tokens of each row, float64.

    Attributes:
        numbers: by name, shape ``[R]``.
        bins: for each interval of confidence the number of tokens, the sum of the confidence and
            the number of hits, shape ``[R, BINS, 3]``.
    """

    numbers: dict[str, NDArray[np.float64]]
    bins: NDArray[np.float64]


@torch.no_grad()
def token_sums(
    model: nn.Module,
    rows: Sequence[dict[str, Any]],
    *,
    vocab_size: int,
    batch_tokens: int,
    pad_token_id: int = 0,
    teacher: nn.Module | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TokenSums:
    """Read rows with a model, and with a teacher beside it.

    Distributions are over the first ``vocab_size`` entries of the heads, in float32 or better, and
    are made for a tile of tokens at a time.

    Args:
        model: in evaluation mode, under its caller's autocast.
        rows: with ``input_ids`` and ``labels`` (-100 where a token is not scored).
        vocab_size: number of real tokens.
        batch_tokens: most tokens of a batch, padding included.
        pad_token_id: fills the batches.
        teacher: a model with the same tokenizer.
        progress: called with (tokens read, tokens in all).
    """
    names = (*NUMBERS, *(AGAINST_TEACHER if teacher is not None else ()))
    sums = np.zeros((len(rows), len(names)))
    bins = np.zeros((len(rows) * BINS, 3))
    lengths = [len(row["input_ids"]) for row in rows]
    done = 0
    for batch in length_batches(lengths, max_tokens=batch_tokens):
        inputs = collate([rows[place] for place in batch], pad_token_id)
        hidden_NH, targets_N = batch_hidden(model, inputs)
        theirs_NH = None if teacher is None else batch_hidden(teacher, inputs)[0]
        counts = (inputs["labels"][:, 1:] >= 0).sum(dim=1)
        places_N = np.repeat(batch, counts.numpy())
        for start in range(0, len(targets_N), TILE_TOKENS):
            tile = slice(start, start + TILE_TOKENS)
            student_nV = _log_probabilities(model, hidden_NH[tile], vocab_size)
            teacher_nV = None
            if teacher is not None and theirs_NH is not None:
                teacher_nV = _log_probabilities(teacher, theirs_NH[tile], vocab_size)
                teacher_nV = teacher_nV.to(student_nV.device)
            values_Kn, confidence_n = _values(student_nV, targets_N[tile], teacher_nV)
            np.add.at(sums, places_N[tile], values_Kn.T)
            hits_n = values_Kn[names.index("hits")]
            bin_n = np.minimum((confidence_n * BINS).astype(np.int64), BINS - 1)
            cells = np.stack([np.ones_like(hits_n), confidence_n, hits_n], axis=1)
            np.add.at(bins, places_N[tile] * BINS + bin_n, cells)
        done += sum(lengths[place] for place in batch)
        if progress is not None:
            progress(done, sum(lengths))
    numbers = {name: sums[:, place] for place, name in enumerate(names)}
    return TokenSums(numbers, bins.reshape(len(rows), BINS, 3))


def _log_probabilities(model: nn.Module, hidden_NH: Tensor, vocab_size: int) -> Tensor:
    logp_nV = head_logits(model, hidden_NH, vocab_size).log_softmax(-1)
    check_numbers(logp_nV[:, 0])  # one NaN makes all of its row so
    return logp_nV


def _values(
    student_nV: Tensor, targets_n: Tensor, teacher_nV: Tensor | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The numbers of each token, ``[K, n]``, and the probability of the likeliest one, ``[n]``."""
    highest_n, likeliest_n = student_nV.max(-1)
    parts = [
        torch.ones_like(highest_n),
        -student_nV.gather(-1, targets_n.unsqueeze(-1)).squeeze(-1),
        _entropy(student_nV),
        likeliest_n == targets_n,
    ]
    if teacher_nV is not None:
        parts += [
            forward_kl(teacher_nV, student_nV),
            reverse_kl(teacher_nV, student_nV),
            teacher_nV.argmax(-1) == likeliest_n,
        ]
    values = np.stack([part.double().cpu().numpy() for part in parts])
    return values, highest_n.double().exp().cpu().numpy()


def _entropy(logp_nV: Tensor) -> Tensor:
    """Entropy in nats; a token of probability 0 adds nothing."""
    return -(logp_nV.exp() * logp_nV.clamp_min(torch.finfo(logp_nV.dtype).min)).sum(-1)


def calibration_error(bins_RB3: NDArray[np.float64]) -> NDArray[np.float64]:
    """Expected calibration error: the mean distance of confidence and hits, over tokens.

    Args:
        bins_RB3: tokens, confidence and hits of each interval, shape ``[R, B, 3]``.

    Returns:
        Shape ``[R]``, in [0, 1].

    References:
        Guo et al., On Calibration of Modern Neural Networks, arXiv:1706.04599.
    """
    tokens, confidence, hits = np.moveaxis(bins_RB3, -1, 0)
    return np.abs(hits - confidence).sum(axis=-1) / tokens.sum(axis=-1)
