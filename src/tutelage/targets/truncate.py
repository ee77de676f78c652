"""Fewer outcomes: the teacher's likeliest tokens and one bucket for all others."""

import torch
from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.numerics import LOG_FLOOR, as_float


def coarsen(
    target_logp: Tensor, student_logp: Tensor, teacher_logp: Tensor, *, k: int
) -> tuple[Tensor, Tensor]:
    """Merge all but the teacher's k likeliest tokens into one outcome, in target and student.

    The tail keeps its mass, so both stay distributions: any f-divergence between them is at most
    the full one (it loses what happens inside the tail) and never negative, unlike a sum over the
    likeliest tokens that leaves the tail out.

    Args:
        target_logp: what the student is pulled towards, shape ``[..., V]``.
        student_logp: the student, shape ``[..., V]``.
        teacher_logp: says which tokens are kept, shape ``[..., V]``; no gradient flows into it.
        k: how many; V - 1 or more keeps everything.

    Returns:
        Both as log-probabilities of shape ``[..., k + 1]``, the tail last; unchanged when k >= V.

    Raises:
        ConfigError: k is less than 1.
    """
    if k < 1:
        raise ConfigError(f"`top_k` must be at least 1, got {k}.")
    if k >= teacher_logp.shape[-1]:
        return target_logp, student_logp
    kept = teacher_logp.detach().topk(k, dim=-1).indices
    return with_tail(target_logp, kept), with_tail(student_logp, kept)


def with_tail(logp: Tensor, kept: Tensor) -> Tensor:
    """Named tokens, and one outcome for all others.

    Args:
        logp: log-probabilities, shape ``[..., V]``.
        kept: indices of the named tokens, shape ``[..., K]``, different from each other.

    Returns:
        Log-probabilities, shape ``[..., K + 1]``: in the order of ``kept``, the tail last.
    """
    # A finite floor keeps the gradient of the tail's logarithm finite when its mass is 0.
    logp = as_float(logp).clamp_min(LOG_FLOOR)
    # The mass of the tail is summed, not taken as 1 minus the rest, which would lose small tails.
    tail = logp.scatter(-1, kept, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([logp.gather(-1, kept), tail], dim=-1)
