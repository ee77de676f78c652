"""Arithmetic on log-probabilities that stays right where a probability is 0. Torch alone."""

import math

import torch
from torch import Tensor

LOG_FLOOR = -1e4
"""Stands for the logarithm of a probability that is exactly 0; its exponential is 0 in any type."""


def as_float(logp: Tensor) -> Tensor:
    """``logp`` in float32, or unchanged in float64: in 16 bits a divergence can be negative."""
    return logp if logp.dtype == torch.float64 else logp.float()


def expectation(logp: Tensor, values: Tensor) -> Tensor:
    r"""Mean under a distribution: :math:`\sum_v e^{\log p_v} x_v`, with 0 where p is 0.

    Args:
        logp: log-probabilities, shape ``[..., V]``; may hold minus infinity.
        values: shape ``[..., V]``; may be infinite or NaN where ``logp`` is minus infinity.

    Returns:
        Shape ``[...]``. Tokens of probability 0 add neither to the value nor to the gradient.
    """
    impossible = logp.isneginf()
    # masked_fill must come before the product: 0 * inf is NaN, and so is its gradient.
    probability = logp.masked_fill(impossible, 0.0).exp().masked_fill(impossible, 0.0)
    return (probability * values.masked_fill(impossible, 0.0)).sum(-1)


def relative_entropy(logp: Tensor, logq: Tensor) -> Tensor:
    r"""KL(p || q) for any two distributions, :math:`\sum_v p_v (\log p_v - \log q_v)`.

    Where p is 0 the term is 0. Where q alone is exactly 0 the true value is infinite; its logarithm
    is then taken as ``LOG_FLOOR``, so that value and gradient stay finite.

    Args:
        logp: log-probabilities, shape ``[..., V]``.
        logq: log-probabilities, shape ``[..., V]``.

    Returns:
        Nats, shape ``[...]``, float32 or better.
    """
    logp, logq = as_float(logp), as_float(logq)
    impossible = logp.isneginf()
    logq = logq.masked_fill(logq.isneginf(), LOG_FLOOR)
    return expectation(logp, logp.masked_fill(impossible, 0.0) - logq)


def log_mixture(logp: Tensor, logq: Tensor, weight_q: float) -> Tensor:
    r"""Mixture of two distributions: ``weight_q`` weighs the second, the rest the first.

    .. math:: \log\big((1 - w)\,p + w\,q\big)

    Args:
        logp: log-probabilities, shape ``[..., V]``.
        logq: log-probabilities, shape ``[..., V]``.
        weight_q: w in [0, 1]; at either end the other distribution takes no part at all.

    Returns:
        Log-probabilities, shape ``[..., V]``; gradients are finite where a probability is 0.
    """
    if weight_q == 0.0:
        return logp
    if weight_q == 1.0:
        return logq
    # logaddexp(-inf, -inf) has NaN gradients; at a finite floor it has none, and exp(floor) is 0.
    return torch.logaddexp(
        logq.clamp_min(LOG_FLOOR) + math.log(weight_q),
        logp.clamp_min(LOG_FLOOR) + math.log1p(-weight_q),
    )
