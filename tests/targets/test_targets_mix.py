"""The mixed target and the gradient identities of CPD's loss."""

import math

import pytest
import torch

from tutelage.divergences import forward_kl
from tutelage.targets import TARGETS, probability_mix

SHARES = [0.0, 0.25, 0.5, 0.9, 1.0]


@pytest.fixture
def teacher_logp():
    return torch.randn(5, 12, dtype=torch.float64, generator=torch.manual_seed(1)).log_softmax(-1)


@pytest.fixture
def student_logits():
    return torch.randn(5, 12, dtype=torch.float64, generator=torch.manual_seed(2))


def mixed_loss(teacher_logp, logits, share, detach=False):
    student_logp = logits.log_softmax(-1)
    target = probability_mix(teacher_logp, student_logp, share, detach=detach)
    return forward_kl(target, student_logp)


def gradient(teacher_logp, logits, share, detach=False):
    logits = logits.clone().requires_grad_()
    mixed_loss(teacher_logp, logits, share, detach).sum().backward()
    return logits.grad


@pytest.mark.parametrize("share", SHARES)
def test_is_the_mixture_and_is_normalised(teacher_logp, student_logits, share):
    q = student_logits.softmax(-1)
    target = probability_mix(teacher_logp, q.log(), share)
    torch.testing.assert_close(target.exp(), share * q + (1 - share) * teacher_logp.exp())


def test_share_zero_is_forward_kl(teacher_logp, student_logits):
    expected = forward_kl(teacher_logp, student_logits.log_softmax(-1))
    torch.testing.assert_close(mixed_loss(teacher_logp, student_logits, 0.0), expected)
    closed_form = student_logits.softmax(-1) - teacher_logp.exp()
    torch.testing.assert_close(gradient(teacher_logp, student_logits, 0.0), closed_form)


def test_share_one_is_nothing(teacher_logp, student_logits):
    assert mixed_loss(teacher_logp, student_logits, 1.0).abs().max() == 0
    assert gradient(teacher_logp, student_logits, 1.0).abs().max() < 1e-15


@pytest.mark.parametrize("share", SHARES)
def test_detached_is_forward_kl_times_the_teachers_share(teacher_logp, student_logits, share):
    expected = (1 - share) * (student_logits.softmax(-1) - teacher_logp.exp())
    torch.testing.assert_close(gradient(teacher_logp, student_logits, share, True), expected)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_full_gradient_has_its_closed_form(teacher_logp, student_logits, share):
    q, p = student_logits.softmax(-1), teacher_logp.exp()
    log_r = (share + (1 - share) * p / q).log()
    expected = (1 - share) * (q - p) + share * q * (log_r - (q * log_r).sum(-1, keepdim=True))
    torch.testing.assert_close(gradient(teacher_logp, student_logits, share), expected)
    assert not torch.allclose(expected, gradient(teacher_logp, student_logits, share, True))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_full_gradient_near_the_teacher_scales_with_the_square(teacher_logp, share):
    noise = torch.randn(5, 12, dtype=torch.float64, generator=torch.manual_seed(3))
    near = teacher_logp + 1e-4 * noise
    ratio = gradient(teacher_logp, near, share).norm() / gradient(teacher_logp, near, 0.0).norm()
    assert ratio.item() == pytest.approx((1 - share) ** 2, rel=2e-3)


def test_gradient_norm_falls_with_the_share(teacher_logp, student_logits):
    shares = torch.linspace(0, 1, 11).tolist()
    norms = [gradient(teacher_logp, student_logits, share).norm().item() for share in shares]
    assert norms == sorted(norms, reverse=True)


@pytest.mark.parametrize("name", sorted(TARGETS))
@pytest.mark.parametrize("share", SHARES)
def test_zero_probabilities_do_not_poison_the_gradient(name, share):
    teacher = torch.tensor([0.0, 1.0, -math.inf, -math.inf]).log_softmax(-1)
    logits = torch.tensor([0.5, -math.inf, 0.1, -math.inf], requires_grad=True)
    target = TARGETS[name].function(teacher, logits.log_softmax(-1), share)
    value = forward_kl(target, logits.log_softmax(-1))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_outside_the_unit_interval_is_refused(teacher_logp, share):
    with pytest.raises(ValueError, match="student_share"):
        probability_mix(teacher_logp, teacher_logp, share)
