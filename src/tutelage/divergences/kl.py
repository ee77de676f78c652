"""The two directions of the Kullback-Leibler divergence."""

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
    r"""KL(p || q) for any two distributions; see :func:`forward_kl` for shapes.

    Where p is 0 the term is 0. Where q alone is exactly 0 the true value is infinite; its logarithm
    is then taken as ``LOG_FLOOR``, so that value and gradient stay finite.
    """
    logp, logq = as_float(logp), as_float(logq)
    impossible = logp.isneginf()
    logq = logq.masked_fill(logq.isneginf(), LOG_FLOOR)
    return expectation(logp, logp.masked_fill(impossible, 0.0) - logq)


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
