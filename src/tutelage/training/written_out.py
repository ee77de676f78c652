r"""Forward KL and cross-entropy with their gradient in the logits written out.

.. math:: \frac{\partial}{\partial z}\big(w\,CE + (1 - w)\,\tau^2 KL(p_\tau \| q_\tau)\big)
          = w\,(q_1 - e_y) + (1 - w)\,\tau\,(q_\tau - p_\tau)

Autograd passes over the same arrays about twice as often, and beside the matrix products these
passes are what the loss consists of. Value, parts and gradient are those of ``DistillLoss``.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from tutelage.divergences.kl import forward_kl
from tutelage.numerics import LOG_FLOOR
from tutelage.targets import probability_mix

# Shape suffixes: r tokens of a block, V vocabulary.

_FAR = 1e30
"""Times a gap of the teacher, it takes a token out of the search for the student's likeliest."""


def underlying(function: Any) -> Any:
    """The function of a component that may be bound to options."""
    return function.func if isinstance(function, functools.partial) else function


def is_plain(function: Any, wanted: Any) -> bool:
    """Whether a component, bound to options or not, is a certain function without any."""
    bound = isinstance(function, functools.partial) and (function.args or function.keywords)
    return underlying(function) is wanted and not bound


def can_be_written_out(divergence: Any, target: Any, share: float) -> bool:
    """Whether a distillation is forward KL to the teacher alone."""
    return share == 0.0 and is_plain(divergence, forward_kl) and is_plain(target, probability_mix)


def likeliest_agree(logits_rV: Tensor, teacher_logp_rV: Tensor) -> tuple[Tensor, Tensor]:
    """At how many tokens the student's likeliest one is the teacher's, and memory to use again.

    Not by argmax or a mask: one of them costs as much as two softmaxes. Of two unequal
    log-probabilities the lower is below -log 2, so that gaps are never near 1 / _FAR.

    Args:
        logits_rV: the student's; not differentiated.
        teacher_logp_rV: the teacher's log-probabilities.
    """
    gap_rV = teacher_logp_rV - teacher_logp_rV.amax(-1, keepdim=True)
    wanted_r = torch.add(logits_rV, gap_rV, alpha=_FAR, out=gap_rV).amax(-1)
    return (wanted_r >= logits_rV.amax(-1)).sum(), gap_rV


def written_out(
    logits_rV: Tensor,
    targets_r: Tensor,
    teacher_logp_rV: Tensor | None,
    *,
    ce_weight: float,
    temperature: float,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cross-entropy, distillation, agreeing tokens, and the gradient of the weighed sum.

    Args:
        logits_rV: the student's own logits, float32 or better; not differentiated.
        targets_r: the response tokens.
        teacher_logp_rV: the teacher's log-probabilities at the temperature, which are overwritten;
            None: cross-entropy alone.
        ce_weight: w.
        temperature: tau.
        scale: what distillation is multiplied by: tau squared, or 1.

    Returns:
        ``ce`` (unweighted) and ``kd`` (scaled, unweighted), float64 sums; the number of agreeing
        tokens; the gradient in the logits, shape ``[r, V]``.
    """
    where = targets_r.unsqueeze(-1)
    logp_rV = logits_rV.log_softmax(-1)
    ce = -logp_rV.gather(-1, where).sum(dtype=torch.float64)
    nothing = torch.zeros_like(ce)
    if teacher_logp_rV is None:
        gradient_rV = _label_gradient(logp_rV, where, ce_weight)
        return ce, nothing, nothing, gradient_rV
    agreed, memory_rV = likeliest_agree(logits_rV, teacher_logp_rV)
    soft_rV = logp_rV
    if temperature != 1.0:
        soft_rV = (logits_rV / temperature).log_softmax(-1)
    # At a finite floor the product is 0 where p is 0; with minus infinity it would be NaN.
    teacher_logp_rV.clamp_min_(LOG_FLOOR)
    gap_rV = torch.sub(teacher_logp_rV, soft_rV.clamp_min_(LOG_FLOOR), out=memory_rV)
    p_rV = teacher_logp_rV.exp_()
    kd = scale * torch.linalg.vecdot(p_rV, gap_rV).sum(dtype=torch.float64)
    weight = (1.0 - ce_weight) * scale / temperature
    if temperature != 1.0 or not ce_weight:
        gradient_rV = soft_rV.exp_().sub_(p_rV).mul_(weight)
        if ce_weight:
            gradient_rV += _label_gradient(logp_rV, where, ce_weight)
        return ce, kd, agreed, gradient_rV
    # Both distributions of the student are one: q - (1 - w) p - w e_y.
    gradient_rV = logp_rV.exp_().mul_(ce_weight + weight).sub_(p_rV, alpha=weight)
    return ce, kd, agreed, _minus_labels(gradient_rV, where, ce_weight)


def _label_gradient(logp_rV: Tensor, where_r1: Tensor, ce_weight: float) -> Tensor:
    """Of weighed cross-entropy; the log-probabilities are overwritten."""
    return _minus_labels(logp_rV.exp_().mul_(ce_weight), where_r1, ce_weight)


def _minus_labels(gradient_rV: Tensor, where_r1: Tensor, ce_weight: float) -> Tensor:
    """Less the weight at the response tokens."""
    return gradient_rV.scatter_add_(
        -1, where_r1, torch.full_like(where_r1, -ce_weight, dtype=gradient_rV.dtype)
    )
