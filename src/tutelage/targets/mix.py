"""Targets that lie between teacher and student."""

import math

import torch
from torch import Tensor

LOG_FLOOR = -1e4
"""Stands for the logarithm of a probability that is exactly 0; its exponential is 0 in any type."""


def probability_mix(
    teacher_logp: Tensor, student_logp: Tensor, student_share: float, *, detach: bool = False
) -> Tensor:
    r"""CPD's target: ``student_share`` weighs the student, the rest weighs the teacher.

    .. math:: \log\big(t\,q + (1 - t)\,p\big)

    With t = 0 it is the teacher itself, with t = 1 the student itself (and every divergence to it
    is 0). By default gradients flow through the student inside the target, as CPD's equation 3
    differentiates it; for forward KL the gradient in the student's logits is then
    :math:`(1-t)(q-p) + t\,q\,(\log r - E_q[\log r])` with :math:`r = t + (1-t) p/q`. With
    ``detach=True`` it shrinks to :math:`(1-t)(q-p)`: exactly forward KL weighted by 1 - t.

    Args:
        teacher_logp: log p, shape ``[..., V]``.
        student_logp: log q, shape ``[..., V]``.
        student_share: t in [0, 1].
        detach: treat the student inside the target as a constant.

    Returns:
        Log-probabilities of the target, shape ``[..., V]``.

    Raises:
        ValueError: ``student_share`` lies outside [0, 1].

    References:
        Zhang and Liu, Calibrated Progressive Distillation, Findings of ACL 2026, section 3.3.
    """
    if not 0.0 <= student_share <= 1.0:
        raise ValueError(f"`student_share` must lie in [0, 1], got {student_share}.")
    inside = student_logp.detach() if detach else student_logp
    if student_share == 0.0:
        return teacher_logp
    if student_share == 1.0:
        return inside
    # logaddexp(-inf, -inf) has NaN gradients; at a finite floor it has none, and exp(floor) is 0.
    return torch.logaddexp(
        inside.clamp_min(LOG_FLOOR) + math.log(student_share),
        teacher_logp.clamp_min(LOG_FLOOR) + math.log1p(-student_share),
    )
