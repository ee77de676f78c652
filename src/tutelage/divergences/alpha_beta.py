r"""The alpha-beta divergence, with all of its limits.

Printed, with :math:`s = \alpha + \beta`,

.. math:: D = -\frac{1}{\alpha\beta} \sum_v \Big[p_v^\alpha q_v^\beta
          - \frac{\alpha}{s} p_v^s - \frac{\beta}{s} q_v^s\Big]

which cancels badly for p near q and divides by 0 in its limits. With
:math:`d = \log p_v - \log q_v` and :math:`\phi(x) = (e^x - 1)/x` the term of a token is

.. math:: q_v^s\, d^2\, \phi[\alpha d, s d], \qquad
          \phi[x, y] = \frac{\phi(x) - \phi(y)}{x - y}

whose divided difference has a limit, :math:`\phi'`, wherever alpha, beta or s is 0: one formula for
everything. Swapping p with q and alpha with beta changes nothing, so the larger of the two
probabilities is always the one in front, and no exponential overflows for positive parameters.
"""

from typing import Any

import torch
from torch import Tensor

from tutelage.numerics import LOG_FLOOR, as_float

_NEAR_A_LIMIT = 0.05
"""With alpha, beta or their sum this near to 0, the slower form is used."""

_LARGE = 60.0
"""Keeps values finite where a negative parameter and a probability of 0 make them infinite."""

_SMALL = 0.1
"""Divided differences over less than this are taken by quadrature of the derivative."""


def alpha_beta(
    teacher_logp: Tensor, student_logp: Tensor, *, ab_alpha: float = 0.2, ab_beta: float = 0.7
) -> Tensor:
    r"""Alpha-beta divergence; ``ab_alpha`` is the teacher's exponent, ``ab_beta`` the student's.

    .. math:: -\frac{1}{\alpha\beta} \sum_v \Big[p_v^\alpha q_v^\beta - \frac{\alpha}{\alpha+\beta}
              p_v^{\alpha+\beta} - \frac{\beta}{\alpha+\beta} q_v^{\alpha+\beta}\Big]

    continued to all parameters. (1, 0) is forward KL, (0, 1) reverse KL, (0.5, 0.5) four times the
    squared Hellinger distance, (1, 1) half the squared distance, (0, 0) half the squared difference
    of logarithms.

    Args:
        teacher_logp: log p, shape ``[..., V]``, natural logarithm.
        student_logp: log q, shape ``[..., V]``. Gradients flow through both arguments.
        ab_alpha: alpha; ABKD uses 0.2 for GPT-2 and 0.1 for OpenLLaMA.
        ab_beta: beta; ABKD uses 0.7 and 0.8.

    Returns:
        Divergence, shape ``[...]``; 0 exactly when p = q, never negative beyond rounding.

    References:
        Wang et al., ABKD, ICML 2025, arXiv:2505.04560; Cichocki et al., Generalized Alpha-Beta
        Divergences, Entropy 2011. The released code of ABKD divides by alpha, not alpha squared,
        in the limits, which this does not follow.
    """
    u, v = as_float(teacher_logp), as_float(student_logp)
    if min(abs(ab_alpha), abs(ab_beta), abs(ab_alpha + ab_beta)) > _NEAR_A_LIMIT:
        return _AwayFromLimits.apply(u, v, ab_alpha, ab_beta)[0]
    u, v = u.clamp_min(LOG_FLOOR), v.clamp_min(LOG_FLOOR)
    total = ab_alpha + ab_beta
    gap = -(u - v).abs()
    larger = torch.maximum(u, v)
    # The exponent that goes with the smaller of the two probabilities.
    exponent = torch.where(u > v, u.new_tensor(ab_beta), u.new_tensor(ab_alpha))
    own, both = (exponent * gap).clamp_max(_LARGE), (total * gap).clamp_max(_LARGE)
    terms = gap.square() * _divided_difference(own, both)
    return ((total * _unless_impossible(larger)).exp() * terms).sum(-1)


def _unless_impossible(larger: Tensor) -> Tensor:
    """A token that neither can say: the gap is 0, and a negative total must not make 0 * inf."""
    return larger.masked_fill(larger <= LOG_FLOOR, 0.0)


class _AwayFromLimits(torch.autograd.Function):
    r"""The printed form, bracketed so that nothing cancels, with its gradients written out.

    .. math:: \frac{\partial D}{\partial \log q_v} = -\frac{p_v^\alpha q_v^\beta - q_v^s}{\alpha},
              \qquad
              \frac{\partial D}{\partial \log p_v} = -\frac{p_v^\alpha q_v^\beta - p_v^s}{\beta}

    With the larger of the two probabilities in front, the mixed power is ``front * exp(own)``, the
    power of the smaller one ``front * exp(both)``, and that of the larger one ``front``.
    """

    @staticmethod
    def forward(u: Tensor, v: Tensor, alpha: float, beta: float) -> tuple[Tensor, ...]:
        u, v, total = u.clamp_min(LOG_FLOOR), v.clamp_min(LOG_FLOOR), alpha + beta
        gap = u - v
        # 1 where the teacher's is the larger one; where both are equal it does not matter.
        side = gap.sign().add_(1.0).mul_(0.5)
        exponent = side * (beta - alpha) + alpha
        gap = gap.abs_().neg_()
        own, both, larger = exponent * gap, total * gap, torch.maximum(u, v)
        if min(alpha, beta, total) < 0:
            own, both = own.clamp_max_(_LARGE), both.clamp_max_(_LARGE)
            larger = _unless_impossible(larger)
        front = larger.mul_(total).exp_()
        mixed, smaller = own.expm1_().mul_(front), both.expm1_().mul_(front)
        value = exponent.mul_(smaller).div_(total).sub_(mixed).sum(-1) / (alpha * beta)
        return value, mixed, smaller, side

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: tuple[Tensor, ...]) -> None:
        _, _, ctx.alpha, ctx.beta = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*output[1:])

    @staticmethod
    def backward(ctx: Any, *above: Tensor | None) -> tuple[Tensor | None, ...]:
        mixed, smaller, side = ctx.saved_tensors
        if above[0] is None:
            return None, None, None, None
        scale = above[0].unsqueeze(-1)
        in_u = in_v = None
        if ctx.needs_input_grad[0]:
            in_u = (mixed - smaller + side * smaller) * (scale / -ctx.beta)
        if ctx.needs_input_grad[1]:
            in_v = (mixed - side * smaller) * (scale / -ctx.alpha)
        return in_u, in_v, None, None


def _phi(x: Tensor) -> Tensor:
    r""":math:`(e^x - 1) / x`, 1 at 0."""
    safe = torch.where(x == 0, 1.0, x)
    return torch.where(x == 0, 1.0, torch.expm1(safe) / safe)


def _phi_slope(x: Tensor) -> Tensor:
    r"""Derivative of :math:`(e^x - 1) / x`, 1/2 at 0."""
    near = x.abs() < 1.0
    series, power, factorial = torch.full_like(x, 0.5), torch.ones_like(x), 2.0
    inner = torch.where(near, x, 0.0)
    for k in range(2, 18):
        factorial *= k + 1
        power = power * inner
        series = series + k / factorial * power
    outer = torch.where(near, -1.0, x)
    return torch.where(near, series, (outer.exp() * (outer - 1.0) + 1.0) / outer.square())


def _divided_difference(x: Tensor, y: Tensor) -> Tensor:
    r""":math:`(\phi(x) - \phi(y)) / (x - y)`, the derivative where the two meet."""
    step = x - y
    near = step.abs() < _SMALL
    middle, half = torch.where(near, (x + y) / 2, 0.0), torch.where(near, step / 2, 0.0)
    # Three-point Gauss-Legendre quadrature of the derivative: exact up to the sixth power of step.
    reach = half * 0.6**0.5
    mean = (
        5 * _phi_slope(middle - reach) + 8 * _phi_slope(middle) + 5 * _phi_slope(middle + reach)
    ) / 18
    apart = torch.where(near, 1.0, step)
    return torch.where(near, mean, (_phi(x) - _phi(y)) / apart)
