"""Arithmetic on log-probabilities that stays right where a probability is 0. Torch alone."""

import math
from typing import Any

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
        Nats, shape ``[...]``, float32 or better. It can be differentiated once.
    """
    return _RelativeEntropy.apply(as_float(logp), as_float(logq))[0]


def log_mixture(logp: Tensor, logq: Tensor, weight_q: float) -> Tensor:
    r"""Mixture of two distributions: ``weight_q`` weighs the second, the rest the first.

    .. math:: \log\big((1 - w)\,p + w\,q\big)

    Args:
        logp: log-probabilities, shape ``[..., V]``.
        logq: log-probabilities, shape ``[..., V]``.
        weight_q: w in [0, 1]; at either end the other distribution takes no part at all.

    Returns:
        Log-probabilities, shape ``[..., V]``; gradients are finite where a probability is 0. It can
        be differentiated once.
    """
    if weight_q == 0.0:
        return logp
    if weight_q == 1.0:
        return logq
    return _LogMixture.apply(logp, logq, weight_q)


# Both have their gradients written out: of what autograd would do, most are masks and copies, and
# the loss spends most of its time outside of matrix products here. See the tests against autograd.


class _RelativeEntropy(torch.autograd.Function):
    @staticmethod
    def forward(logp: Tensor, logq: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # At a finite floor the product is 0 where p is 0; with minus infinity it would be NaN.
        logp = logp.clamp_min(LOG_FLOOR)
        p, gap = logp.exp(), logp - logq.clamp_min(LOG_FLOOR)
        return (p * gap).sum(-1), p, gap

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        _, p, gap = output
        ctx.mark_non_differentiable(p, gap)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(p, gap)

    @staticmethod
    def backward(ctx: Any, *above: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        p, gap = ctx.saved_tensors
        if above[0] is None:
            return None, None
        weight = above[0].unsqueeze(-1)
        in_q = p * -weight if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, in_q
        scaled = weight * p
        return torch.addcmul(scaled, scaled, gap), in_q


class _LogMixture(torch.autograd.Function):
    @staticmethod
    def forward(logp: Tensor, logq: Tensor, weight_q: float) -> Tensor:
        # logaddexp of two minus infinities has NaN gradients; exp(LOG_FLOOR) is 0 as well.
        return torch.logaddexp(
            logq.clamp_min(LOG_FLOOR) + math.log(weight_q),
            logp.clamp_min(LOG_FLOOR) + math.log1p(-weight_q),
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        logp, logq, ctx.weight_q = inputs
        ctx.save_for_backward(logp, logq, output)

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        logp, logq, mixture = ctx.saved_tensors
        in_p = in_q = None
        # The share that each has in the mixture: 0 for minus infinity, never more than 1.
        if ctx.needs_input_grad[0]:
            in_p = above[0] * (1.0 - ctx.weight_q) * (logp - mixture).exp()
        if ctx.needs_input_grad[1]:
            in_q = above[0] * ctx.weight_q * (logq - mixture).exp()
        return in_p, in_q, None
