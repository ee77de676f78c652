"""Forward and reverse KL together, token by token as one of the two models is sure or not."""

from typing import Literal

from torch import Tensor

from tutelage.errors import unknown_name
from tutelage.numerics import as_float, expectation, relative_entropy

BY = ("teacher_entropy", "student_entropy", "coverage")


def adaptive_kl(
    teacher_logp: Tensor,
    student_logp: Tensor,
    *,
    by: Literal["teacher_entropy", "student_entropy", "coverage"] = "teacher_entropy",
) -> Tensor:
    r"""Forward KL where a token is open, reverse KL where it is settled; the weight is a constant.

    .. math:: w\,KL(p\|q) + (1 - w)\,KL(q\|p)

    With H an entropy in nats, :math:`w = 1 - e^{-H}`: 0 where one token is certain, a half where
    two are equally likely. It needs no threshold and no size of vocabulary. With ``coverage`` it is
    :math:`w = 1 - \sum_v \min(p_v, q_v)`: 1 where the student says nothing of what the teacher
    would.

    Args:
        teacher_logp: log p, shape ``[..., V]``, natural logarithm.
        student_logp: log q, shape ``[..., V]``. Gradients flow through it, but not through w.
        by: whose entropy H is, or the coverage.

    Returns:
        Divergence in nats, shape ``[...]``, float32 or better; 0 exactly when p = q.

    Raises:
        ConfigError: ``by`` is none of these.

    References:
        Jin et al., Entropy-Aware On-Policy Distillation, 2026, arXiv:2603.07079 (there forward KL
        is added to reverse KL where the teacher's entropy is above a threshold). A weight that
        moves with the student's coverage is the idea of CADENCE, 2026, arXiv:2607.16955.
    """
    teacher_logp, student_logp = as_float(teacher_logp), as_float(student_logp)
    p, q = teacher_logp.detach(), student_logp.detach()
    if by == "teacher_entropy":
        weight = -(expectation(p, p)).expm1()
    elif by == "student_entropy":
        weight = -(expectation(q, q)).expm1()
    elif by == "coverage":
        weight = (p.exp() - q.exp()).abs().sum(-1) / 2
    else:
        raise unknown_name("by", by, BY)
    forward = relative_entropy(teacher_logp, student_logp)
    reverse = relative_entropy(student_logp, teacher_logp)
    return weight * forward + (1.0 - weight) * reverse
