"""The two directions of the Kullback-Leibler divergence, and both together."""

from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.numerics import relative_entropy


def forward_kl(teacher_logp: Tensor, student_logp: Tensor) -> Tensor:
    r"""Forward KL, KL(teacher || student): the student must cover all that the teacher may say.

    .. math:: KL(p\|q) = \sum_v p_v (\log p_v - \log q_v)

    The teacher's entropy is part of the value, unlike in the cross-entropy that some code bases
    call KL; the gradient with respect to the student's logits is :math:`q - p` either way.

    Args:
        teacher_logp: log p, shape ``[..., V]``, natural logarithm.
        student_logp: log q, shape ``[..., V]``. Gradients flow through both arguments.

    Returns:
        Divergence in nats, shape ``[...]``, float32 or better; 0 exactly when p = q.

    References:
        Hinton et al., Distilling the Knowledge in a Neural Network, 2015, arXiv:1503.02531.
    """
    return relative_entropy(teacher_logp, student_logp)


def reverse_kl(teacher_logp: Tensor, student_logp: Tensor) -> Tensor:
    r"""Reverse KL, KL(student || teacher): the student must not say what the teacher would not.

    .. math:: KL(q\|p) = \sum_v q_v (\log q_v - \log p_v)

    The expectation is under the student, over the whole vocabulary (no sampling). With
    :math:`d_v = \log q_v - \log p_v` the gradient with respect to the student's logits is
    :math:`q_v (d_v - KL(q\|p))`.

    Args:
        teacher_logp: log p, shape ``[..., V]``, natural logarithm.
        student_logp: log q, shape ``[..., V]``. Gradients flow through both arguments.

    Returns:
        Divergence in nats, shape ``[...]``, float32 or better; 0 exactly when p = q.

    References:
        Gu et al., MiniLLM, ICLR 2024, arXiv:2306.08543 (there at the level of sequences).
    """
    return relative_entropy(student_logp, teacher_logp)


def symmetric_kl(
    teacher_logp: Tensor, student_logp: Tensor, *, forward_weight: float = 0.5
) -> Tensor:
    r"""Forward and reverse KL together; ``forward_weight`` weighs the forward one.

    .. math:: w\,KL(p\|q) + (1 - w)\,KL(q\|p)

    With w = 0.5 it is half of Jeffreys' divergence, the same both ways. DistiLLM's released code
    has w = 0.1.

    Args:
        teacher_logp: log p, shape ``[..., V]``, natural logarithm.
        student_logp: log q, shape ``[..., V]``. Gradients flow through both arguments.
        forward_weight: w in [0, 1]; reverse KL has the rest.

    Returns:
        Divergence in nats, shape ``[...]``, float32 or better; 0 exactly when p = q.

    Raises:
        ConfigError: ``forward_weight`` lies outside [0, 1].

    References:
        Jeffreys, An Invariant Form for the Prior Probability in Estimation Problems, 1946.
    """
    if not 0.0 <= forward_weight <= 1.0:
        raise ConfigError(f"`forward_weight` must lie in [0, 1], got {forward_weight}.")
    forward = relative_entropy(teacher_logp, student_logp)
    reverse = relative_entropy(student_logp, teacher_logp)
    return forward_weight * forward + (1.0 - forward_weight) * reverse
