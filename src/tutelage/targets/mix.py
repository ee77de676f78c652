"""Targets that lie between teacher and student."""

from torch import Tensor

from tutelage.numerics import LOG_FLOOR, log_mixture


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
    _check_share(student_share)
    inside = student_logp.detach() if detach else student_logp
    return log_mixture(teacher_logp, inside, student_share)


def logit_mix(
    teacher_logp: Tensor, student_logp: Tensor, student_share: float, *, detach: bool = True
) -> Tensor:
    r"""TAID's target: ``student_share`` weighs the student's logits, the rest the teacher's.

    .. math:: \mathrm{softmax}\big(t\,\mathrm{sg}(z_s) + (1 - t)\,z_t\big)

    TAID writes its own t for the teacher's share, 1 - t here. The student inside is a constant,
    so at t = 1 the gradient of forward KL is exactly 0. Log-probabilities serve as logits: they
    differ from them by a constant, which the softmax takes out.

    Args:
        teacher_logp: log p, shape ``[..., V]``.
        student_logp: log q, shape ``[..., V]``.
        student_share: t in [0, 1].
        detach: treat the student inside the target as a constant, as TAID does.

    Returns:
        Log-probabilities of the target, shape ``[..., V]``.

    Raises:
        ValueError: ``student_share`` lies outside [0, 1].

    References:
        Shing et al., TAID, ICLR 2025, arXiv:2501.16937.
    """
    _check_share(student_share)
    inside = student_logp.detach() if detach else student_logp
    # At the ends 0 * minus infinity would be NaN where the other one excludes a token.
    if student_share == 0.0:
        return teacher_logp
    if student_share == 1.0:
        return inside
    mixed = student_share * inside.clamp_min(LOG_FLOOR)
    return (mixed + (1.0 - student_share) * teacher_logp.clamp_min(LOG_FLOOR)).log_softmax(-1)


def _check_share(student_share: float) -> None:
    if not 0.0 <= student_share <= 1.0:
        raise ValueError(f"`student_share` must lie in [0, 1], got {student_share}.")
