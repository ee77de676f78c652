"""Several teachers as one."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tutelage.errors import ConfigError, unknown_name
from tutelage.numerics import LOG_FLOOR

SPACES = {
    "probability": "weighted mean of probabilities: what any teacher may say, the mixture may say",
    "logit": "weighted mean of logits, then softmax: what one teacher excludes, the mixture does",
}
"""Where the teachers of an ensemble are averaged, by name."""


def mix_teachers(
    logps: Sequence[Tensor], weights: Sequence[float], *, space: str = "probability"
) -> Tensor:
    r"""Mixture of teachers, each with its weight.

    .. math:: \log \sum_k w_k p_k \quad\text{or}\quad \log\mathrm{softmax} \sum_k w_k \log p_k

    Args:
        logps: log-probabilities of each teacher, shape ``[..., V]`` each.
        weights: positive, one for each teacher; they are divided by their sum.
        space: one of ``SPACES``.

    Returns:
        Log-probabilities of the mixture, shape ``[..., V]``.

    Raises:
        ConfigError: the numbers do not match, a weight is not positive, or the space is unknown.
    """
    if space not in SPACES:
        raise unknown_name("space of an ensemble", space, SPACES)
    if len(weights) != len(logps) or not weights or min(weights) <= 0:
        raise ConfigError(
            f"An ensemble of {len(logps)} teachers needs as many positive weights, got"
            f" {list(weights)}."
        )
    shares = [weight / math.fsum(weights) for weight in weights]
    floored = [logp.clamp_min(LOG_FLOOR) for logp in logps]
    if space == "logit":
        total = sum(share * logp for share, logp in zip(shares, floored, strict=True))
        assert isinstance(total, Tensor)
        return total.log_softmax(-1)
    weighted = [logp + math.log(share) for share, logp in zip(shares, floored, strict=True)]
    return torch.stack(weighted).logsumexp(0)
