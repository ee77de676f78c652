r"""The teacher's k likeliest tokens and the mass of all others, in about 4.5 bytes a kept token.

For each response token: the ids of the kept tokens (16 bits, and what goes beyond them packed),
their log-probabilities in 16 bits, and the logarithm of the tail's power sums

.. math:: f(\beta) = \log \sum_{v \notin K} p_v^{\beta}, \quad \beta = 1/\tau

at four values of beta. With them the distribution over k + 1 outcomes is known at any temperature
from 1 to infinity: :math:`f` is smooth, :math:`f(0) = \log(V - k)` is known without storing it, and
in between it is interpolated. At temperature 1 nothing is interpolated.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.numerics import LOG_FLOOR

# Shape suffixes: n tokens, K kept tokens, V vocabulary.

BETAS = (1.0, 0.75, 0.5, 0.25)
"""Inverse temperatures at which the tail's power sums are stored."""


def encode_top_k(logp_nV: Tensor, k: int) -> Tensor:
    """What is stored of some tokens, as bytes.

    Args:
        logp_nV: the teacher's log-probabilities at temperature 1.
        k: how many tokens to keep, less than V.

    Returns:
        Shape ``[n, bytes_per_token]``, uint8: the tail's power sums (float32), the
        log-probabilities of the kept tokens (float16), their ids' lower 16 bits, the upper bits.
    """
    logp_nK, ids_nK = logp_nV.topk(k, dim=-1)
    others = logp_nV.scatter(-1, ids_nK, -torch.inf)
    tail_nb = torch.stack([(others * beta).logsumexp(-1) for beta in BETAS], dim=-1)
    ids = ids_nK.cpu().numpy().astype(np.int64)
    columns = [
        tail_nb.float().clamp_min(LOG_FLOOR).cpu().numpy().view(np.uint8),
        logp_nK.clamp_min(-60000.0).half().cpu().numpy().view(np.uint8),
        (ids & 0xFFFF).astype(np.uint16).view(np.uint8),
        _pack(ids >> 16, high_bits(logp_nV.shape[-1])),
    ]
    return torch.from_numpy(np.concatenate(columns, axis=1))


def bytes_per_token(k: int, vocab_size: int) -> int:
    """What is stored of one token, in bytes."""
    return 4 * len(BETAS) + 2 * k + 2 * k + -(-k * high_bits(vocab_size) // 8)


def high_bits(vocab_size: int) -> int:
    """Bits of an id beyond its lower 16: 0, 1, 2, 4 or 8."""
    needed = max(0, (vocab_size - 1).bit_length() - 16)
    return next(bits for bits in (0, 1, 2, 4, 8) if bits >= needed)


def _pack(high_nK: np.ndarray, bits: int) -> np.ndarray:
    """The upper bits of the ids, several in a byte, row by row."""
    n, k = high_nK.shape
    if bits == 0:
        return np.zeros((n, 0), dtype=np.uint8)
    each = 8 // bits
    padded = np.zeros((n, -(-k // each) * each), dtype=np.uint8)
    padded[:, :k] = high_nK
    shifts = np.arange(each, dtype=np.uint8) * bits
    parts = padded.reshape(n, -1, each) << shifts
    return np.bitwise_or.reduce(parts, axis=-1).astype(np.uint8)


def _unpack(high_nb: Tensor, bits: int, k: int) -> Tensor:
    shifts = torch.arange(8 // bits, device=high_nb.device) * bits
    each = (high_nb.long().unsqueeze(-1) >> shifts) & (2**bits - 1)
    return each.flatten(1)[:, :k]


@dataclass(frozen=True)
class TopK:
    """What is known of the teacher at some tokens.

    Attributes:
        kept_nK: ids of the kept tokens, likeliest first, int64.
        logp_nK: their log-probabilities at temperature 1, float32.
        tail_nb: logarithm of the tail's power sum at each of ``BETAS``, float32.
        vocab_size: number of tokens in all.
    """

    kept_nK: Tensor
    logp_nK: Tensor
    tail_nb: Tensor
    vocab_size: int

    def log_probs(self, temperature: float) -> Tensor:
        """Log-probabilities of the kept tokens and, last, of the tail, shape ``[n, K + 1]``.

        Raises:
            ConfigError: a temperature below 1, for which the tail's mass is not known.
        """
        if temperature < 1.0:
            raise ConfigError(
                f"A teacher stored as its likeliest tokens is known at temperatures from 1 on, and"
                f" {temperature:g} is asked for. Use signal: hidden."
            )
        beta = 1.0 / temperature
        tail = _interpolated(self.tail_nb, beta, self.vocab_size - self.kept_nK.shape[-1])
        joined = torch.cat([self.logp_nK * beta, tail.unsqueeze(-1)], dim=-1)
        # Log-probabilities were rounded to 16 bits; the softmax makes them sum to 1 again.
        return joined.log_softmax(-1)


def decode_top_k(stored_nB: Tensor, k: int, vocab_size: int) -> TopK:
    """What ``encode_top_k`` stored, for computing with it.

    Args:
        stored_nB: some rows of it.
        k: how many tokens were kept.
        vocab_size: number of tokens in all.
    """
    bits = high_bits(vocab_size)
    sizes = [4 * len(BETAS), 2 * k, 2 * k, -(-k * bits // 8)]
    tail, logp, low, high = (part.contiguous() for part in stored_nB.split(sizes, dim=-1))
    ids = low.view(torch.int16).long() & 0xFFFF
    if bits:
        ids = ids | (_unpack(high, bits, k) << 16)
    return TopK(ids, logp.view(torch.float16).float(), tail.view(torch.float32), vocab_size)


def _interpolated(tail_nb: Tensor, beta: float, outcomes: int) -> Tensor:
    """The tail's power sum at any beta in (0, 1], by Lagrange's polynomial through five points."""
    knots = (*BETAS, 0.0)
    at_zero = torch.full_like(tail_nb[:, :1], float(np.log(outcomes)))
    values = torch.cat([tail_nb, at_zero], dim=-1).double()
    weights = [
        np.prod([(beta - other) / (knot - other) for other in knots if other != knot])
        for knot in knots
    ]
    return (values * values.new_tensor(weights)).sum(-1).float()
