"""Divergences between 0 and 1: total variation and Hellinger."""

from torch import Tensor

from tutelage.numerics import as_float


def tvd(teacher_logp: Tensor, student_logp: Tensor) -> Tensor:
    r"""Total variation distance: half of the absolute differences.

    .. math:: \tfrac12 \sum_v |p_v - q_v|

    Its gradient is bounded, and does not exist at p = q, where 0 is given.

    Args:
        teacher_logp: log p, shape ``[..., V]``, natural logarithm.
        student_logp: log q, shape ``[..., V]``. Gradients flow through both arguments.

    Returns:
        Distance in [0, 1], shape ``[...]``, float32 or better.

    References:
        Wen et al., f-Divergence Minimization for Sequence-Level Knowledge Distillation, ACL 2023,
        arXiv:2307.15190 (there at the level of sequences).
    """
    return 0.5 * (as_float(teacher_logp).exp() - as_float(student_logp).exp()).abs().sum(-1)


def hellinger(teacher_logp: Tensor, student_logp: Tensor) -> Tensor:
    r"""Squared Hellinger distance, 1 minus the Bhattacharyya coefficient.

    .. math:: \tfrac12 \sum_v (\sqrt{p_v} - \sqrt{q_v})^2

    ``alpha_beta`` with both parameters 0.5 is four times this.

    Args:
        teacher_logp: log p, shape ``[..., V]``, natural logarithm.
        student_logp: log q, shape ``[..., V]``. Gradients flow through both arguments.

    Returns:
        Squared distance in [0, 1], shape ``[...]``, float32 or better.

    References:
        Hellinger, Neue Begründung der Theorie quadratischer Formen, 1909.
    """
    difference = (0.5 * as_float(teacher_logp)).exp() - (0.5 * as_float(student_logp)).exp()
    return 0.5 * difference.square().sum(-1)
