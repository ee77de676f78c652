"""How likely a model in memory finds texts."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.data.collate import IGNORED, collate, length_batches
from tutelage.generation.engine import Likelihood
from tutelage.generation.requests import Pair
from tutelage.models.finite import check_numbers
from tutelage.models.head import batch_hidden, head_logits

# Shape suffixes: N scored tokens, n those of a tile, H hidden, V vocabulary.

TILE_TOKENS = 256
"""Scored tokens whose logits are in memory at once."""


def likelihoods(
    model: nn.Module,
    pairs: Sequence[Pair],
    *,
    vocab_size: int,
    pad_token_id: int,
    batch_tokens: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[Likelihood]:
    """The likelihood of each continuation, in order.

    Pairs that differ in their last token alone (choices of one letter) are read once. The result
    does not depend on the batches beyond rounding.

    Args:
        model: a causal language model in evaluation mode, under its caller's autocast.
        pairs: what is read and scored.
        vocab_size: number of real tokens, over which probabilities are taken.
        pad_token_id: fills the batches.
        batch_tokens: most tokens of a batch, padding included.
        progress: called with (continuations done, continuations in all).
    """
    alike: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for place, pair in enumerate(pairs):
        alike.setdefault((pair.start, pair.tokens[:-1]), []).append(place)
    groups = list(alike.values())
    lengths = [len(pairs[group[0]].tokens) for group in groups]
    found: dict[int, Likelihood] = {}
    for batch in length_batches(lengths, max_tokens=batch_tokens):
        members = [groups[place] for place in batch]
        found.update(_of_batch(model, pairs, members, vocab_size, pad_token_id))
        if progress is not None:
            progress(len(found), len(pairs))
    return [found[place] for place in range(len(pairs))]


def token_log_probs(
    model: nn.Module,
    pairs: Sequence[Pair],
    *,
    temperature: float,
    vocab_size: int,
    pad_token_id: int,
    batch_tokens: int,
) -> list[Tensor]:
    """Log-probability of each token of each continuation, in nats, in order; shape ``[n]`` each.

    Args:
        model: a causal language model in evaluation mode, under its caller's autocast.
        pairs: what is read and scored.
        temperature: divides the logits.
        vocab_size: number of real tokens, over which probabilities are taken.
        pad_token_id: fills the batches.
        batch_tokens: most tokens of a batch, padding included.
    """
    found: dict[int, Tensor] = {}
    for batch in length_batches([len(pair.tokens) for pair in pairs], max_tokens=batch_tokens):
        rows = [_row(pairs[place]) for place in batch]
        hidden_NH, targets_N = batch_hidden(model, collate(rows, pad_token_id))
        logp_N, _ = _scores(model, hidden_NH, targets_N, vocab_size, temperature)
        counts = [len(pairs[place].tokens) - pairs[place].start for place in batch]
        found |= zip(batch, logp_N.cpu().split(counts), strict=True)
    return [found[place] for place in range(len(pairs))]


def _row(pair: Pair) -> dict[str, Sequence[int]]:
    """A pair as a row whose continuation is labelled."""
    labels = [IGNORED] * pair.start + list(pair.tokens[pair.start :])
    return {"input_ids": pair.tokens, "labels": labels}


def _of_batch(
    model: nn.Module,
    pairs: Sequence[Pair],
    groups: Sequence[Sequence[int]],
    vocab_size: int,
    pad_token_id: int,
) -> dict[int, Likelihood]:
    """Likelihoods by place, of groups whose members differ in their last token alone."""
    first = [pairs[group[0]] for group in groups]
    hidden_NH, _ = batch_hidden(model, collate([_row(pair) for pair in first], pad_token_id))
    counts = [len(pair.tokens) - pair.start for pair in first]
    ends = np.cumsum(counts)
    places, states, targets = [], [], []
    for group, end, count in zip(groups, ends.tolist(), counts, strict=True):
        for place in group:
            places += [place] * count
            states += range(end - count, end)
            targets += pairs[place].tokens[-count:]
    device = hidden_NH.device
    logp_N, likeliest_N = _scores(
        model, hidden_NH[torch.tensor(states, device=device)],
        torch.tensor(targets, device=device), vocab_size,
    )  # fmt: skip
    sums, misses, sizes = (
        np.bincount(places, weights=weights)
        for weights in (logp_N.double().cpu().numpy(), (~likeliest_N).cpu().numpy(), None)
    )
    return {
        place: Likelihood(float(sums[place]), int(sizes[place]), bool(misses[place] == 0))
        for group in groups
        for place in group
    }


def _scores(
    model: nn.Module,
    hidden_NH: Tensor,
    targets_N: Tensor,
    vocab_size: int,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target in nats, and whether it is the likeliest, a tile at a time."""
    logps, likeliest = (
        [hidden_NH.new_empty(0, dtype=torch.float32)],
        [targets_N.new_empty(0).bool()],
    )
    for start in range(0, len(targets_N), TILE_TOKENS):
        logits_nV = head_logits(model, hidden_NH[start : start + TILE_TOKENS], vocab_size)
        if temperature != 1.0:
            logits_nV = logits_nV / temperature
        targets_n1 = targets_N[start : start + TILE_TOKENS, None]
        logps.append(logits_nV.gather(-1, targets_n1).squeeze(-1) - logits_nV.logsumexp(-1))
        likeliest.append(logits_nV.argmax(-1) == targets_n1.squeeze(-1))
    logp_N = torch.cat(logps)
    check_numbers(logp_N)
    return logp_N, torch.cat(likeliest)
