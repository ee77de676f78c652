"""Divergences that measure against a mixture of teacher and student, and so stay finite."""

from torch import Tensor

from tutelage.errors import ConfigError
from tutelage.numerics import as_float, log_mixture, relative_entropy


def jsd(teacher_logp: Tensor, student_logp: Tensor, *, jsd_beta: float = 0.5) -> Tensor:
    r"""Generalised Jensen-Shannon divergence; ``jsd_beta`` weighs the TEACHER.

    .. math:: \beta\,KL(p\|m) + (1 - \beta)\,KL(q\|m), \quad m = \beta p + (1 - \beta) q

    Divided by beta it tends to forward KL as beta goes to 0, divided by 1 - beta to reverse KL as
    beta goes to 1; undivided it vanishes at both ends, so the ends are not accepted. The released
    code behind the GPT-2 tables of DistiLLM, POCL and CPD uses 0.1, their texts 0.5.

    Args:
        teacher_logp: log p, shape ``[..., V]``, natural logarithm.
        student_logp: log q, shape ``[..., V]``. Gradients flow through both arguments.
        jsd_beta: weight of the teacher, strictly between 0 and 1.

    Returns:
        Divergence in nats, shape ``[...]``; 0 exactly when p = q, at most log 2 for beta 0.5.

    Raises:
        ConfigError: ``jsd_beta`` lies outside (0, 1).

    References:
        Agarwal et al., On-Policy Distillation of Language Models (GKD), ICLR 2024,
        arXiv:2306.13649.
    """
    if not 0.0 < jsd_beta < 1.0:
        raise ConfigError(
            f"`jsd_beta` must lie strictly between 0 and 1, got {jsd_beta}: at the ends the"
            " divergence is 0 for all models. Use forward_kl (its limit at 0) or reverse_kl (at 1)."
        )
    teacher_logp, student_logp = as_float(teacher_logp), as_float(student_logp)
    middle = log_mixture(teacher_logp, student_logp, 1.0 - jsd_beta)
    teacher_part = relative_entropy(teacher_logp, middle)
    return jsd_beta * teacher_part + (1.0 - jsd_beta) * relative_entropy(student_logp, middle)


def skl(teacher_logp: Tensor, student_logp: Tensor, *, skew: float = 0.1) -> Tensor:
    r"""Skewed forward KL: ``skew`` weighs the teacher inside the student's slot.

    .. math:: KL\big(p \,\|\, \alpha p + (1 - \alpha) q\big)

    Args:
        teacher_logp: log p, shape ``[..., V]``, natural logarithm.
        student_logp: log q, shape ``[..., V]``. Gradients flow through both arguments.
        skew: alpha in [0, 1); 0 is forward KL.

    Returns:
        Divergence in nats, shape ``[...]``; 0 exactly when p = q, at most -log(skew).

    Raises:
        ConfigError: ``skew`` lies outside [0, 1).

    References:
        Ko et al., DistiLLM, ICML 2024, arXiv:2402.03898 (0.1; CPD's text says 0.5).
    """
    _check_skew(skew)
    teacher_logp, student_logp = as_float(teacher_logp), as_float(student_logp)
    return relative_entropy(teacher_logp, log_mixture(student_logp, teacher_logp, skew))


def srkl(teacher_logp: Tensor, student_logp: Tensor, *, skew: float = 0.1) -> Tensor:
    r"""Skewed reverse KL: ``skew`` weighs the student inside the teacher's slot.

    .. math:: KL\big(q \,\|\, (1 - \alpha) p + \alpha q\big)

    Args:
        teacher_logp: log p, shape ``[..., V]``, natural logarithm.
        student_logp: log q, shape ``[..., V]``. Gradients flow through both, also in the mixture.
        skew: alpha in [0, 1); 0 is reverse KL.

    Returns:
        Divergence in nats, shape ``[...]``; 0 exactly when p = q, at most -log(skew).

    Raises:
        ConfigError: ``skew`` lies outside [0, 1).

    References:
        Ko et al., DistiLLM, ICML 2024, arXiv:2402.03898 (0.1; CPD's text says 0.5).
    """
    _check_skew(skew)
    teacher_logp, student_logp = as_float(teacher_logp), as_float(student_logp)
    return relative_entropy(student_logp, log_mixture(teacher_logp, student_logp, skew))


def bdl(teacher_logp: Tensor, student_logp: Tensor, *, bdl_lambda: float = 0.9) -> Tensor:
    r"""Bidirectional discrepancy: ``bdl_lambda`` weighs the student on the left of the KL.

    .. math:: KL\big((1 - \lambda) p + \lambda q \,\|\, \lambda p + (1 - \lambda) q\big)

    At 0.9 it is near reverse KL, below 0.5 near forward KL, and at 0.5 it is 0 for all models.

    Args:
        teacher_logp: log p, shape ``[..., V]``, natural logarithm.
        student_logp: log q, shape ``[..., V]``. Gradients flow through both mixtures.
        bdl_lambda: lambda in [0, 1], other than 0.5.

    Returns:
        Divergence in nats, shape ``[...]``; 0 exactly when p = q.

    Raises:
        ConfigError: ``bdl_lambda`` lies outside [0, 1] or is 0.5.

    References:
        He et al., DA-KD, ICML 2025, PMLR 267.
    """
    if not 0.0 <= bdl_lambda <= 1.0 or bdl_lambda == 0.5:
        raise ConfigError(
            f"`bdl_lambda` must lie in [0, 1] and not be 0.5, got {bdl_lambda}: at 0.5 both sides"
            " are the same mixture and nothing is learned."
        )
    teacher_logp, student_logp = as_float(teacher_logp), as_float(student_logp)
    left = log_mixture(teacher_logp, student_logp, bdl_lambda)
    return relative_entropy(left, log_mixture(student_logp, teacher_logp, bdl_lambda))


def _check_skew(skew: float) -> None:
    if not 0.0 <= skew < 1.0:
        raise ConfigError(f"`skew` must lie in [0, 1), got {skew}: at 1 the divergence is 0.")
