"""What every divergence must keep. A new row in DIVERGENCES is held to all of it."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from torch.func import grad

from tutelage.divergences import DIVERGENCES

NAMES = sorted(DIVERGENCES)

# Slow references over the vocabulary in float64, written with scipy or by hand, one for each row.
REFERENCES = {
    "forward_kl": lambda p, q: rel_entr(p, q).sum(-1),
    "reverse_kl": lambda p, q: rel_entr(q, p).sum(-1),
}


@pytest.fixture(params=NAMES)
def divergence(request):
    return DIVERGENCES[request.param].function


def logp(*shape, seed=0, scale=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator, dtype=dtype)).log_softmax(-1)


def test_every_row_has_a_reference():
    assert set(REFERENCES) == set(DIVERGENCES)


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_slow_reference(name):
    p, q = logp(5, 3, 11, seed=1), logp(5, 3, 11, seed=2)
    expected = REFERENCES[name](p.exp().numpy(), q.exp().numpy())
    np.testing.assert_allclose(DIVERGENCES[name].function(p, q), expected, rtol=1e-12)


def test_shape_and_sign(divergence):
    value = divergence(logp(4, 7, 11, seed=1), logp(4, 7, 11, seed=2))
    assert value.shape == (4, 7)
    assert (value > 0).all()


def test_zero_when_equal(divergence):
    p = logp(64, 50, seed=3)
    assert divergence(p, p).abs().max() < 1e-14
    assert divergence(p.float(), p.float()).abs().max() < 1e-6


def test_does_not_depend_on_the_level_of_the_logits(divergence):
    teacher, student = torch.randn(2, 6, 9, dtype=torch.float64)
    plain = divergence(teacher.log_softmax(-1), student.log_softmax(-1))
    shifted = divergence((teacher - 7).log_softmax(-1), (student + 40).log_softmax(-1))
    torch.testing.assert_close(plain, shifted, rtol=1e-10, atol=1e-12)


def test_gradient_against_finite_differences(divergence):
    student = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda t, s: divergence(t.log_softmax(-1), s.log_softmax(-1)), (teacher, student)
    )


@pytest.mark.parametrize("impossible", ["teacher", "student", "both"])
def test_finite_where_a_probability_is_zero(divergence, impossible):
    teacher = torch.tensor([0.3, -1.0, 0.5], dtype=torch.float64)
    student = torch.tensor([0.1, 0.7, -0.2], dtype=torch.float64)
    if impossible in ("teacher", "both"):
        teacher[2] = -math.inf
    if impossible in ("student", "both"):
        student[2] = -math.inf
    teacher.requires_grad_()
    student.requires_grad_()
    value = divergence(teacher.log_softmax(-1), student.log_softmax(-1))
    value.backward()
    assert torch.isfinite(value) and value >= 0
    assert torch.isfinite(student.grad).all() and torch.isfinite(teacher.grad).all()


def test_impossible_for_both_changes_nothing(divergence):
    p, q = logp(4, 9, seed=1), logp(4, 9, seed=2)
    none = torch.full((4, 2), -math.inf, dtype=torch.float64)
    padded = divergence(torch.cat([p, none], -1), torch.cat([q, none], -1))
    torch.testing.assert_close(padded, divergence(p, q))


def test_float32_is_close_to_float64(divergence):
    p, q = logp(200, 500, seed=1, scale=4.0), logp(200, 500, seed=2, scale=4.0)
    value = divergence(p.float(), q.float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), divergence(p, q), rtol=2e-5, atol=1e-6)
    assert (value > -1e-6).all()


def test_sixteen_bit_inputs_are_computed_in_float32(divergence):
    p, q = logp(8, 40, seed=1).bfloat16(), logp(8, 40, seed=2).bfloat16()
    value = divergence(p, q)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, divergence(p.float(), q.float()))


def test_a_vocabulary_of_151936(divergence):
    teacher = logp(2, 151_936, seed=1, scale=3.0)
    student = (teacher + 0.05 * logp(2, 151_936, seed=2)).log_softmax(-1)
    value = divergence(teacher.float(), student.float())
    torch.testing.assert_close(value.double(), divergence(teacher, student), rtol=1e-3, atol=1e-6)


def test_deep_underflow_stays_finite_and_keeps_its_gradient(divergence):
    # Log-probabilities below -104 underflow in float32, but are no zeros.
    teacher = torch.tensor([0.0, -150.0, -1.0]).log_softmax(-1)
    student = torch.tensor([-150.0, 0.0, -1.0], requires_grad=True)
    value = divergence(teacher, student.log_softmax(-1))
    value.backward()
    assert torch.isfinite(value) and value > 50
    assert student.grad.abs().max() > 0.1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # p = (1/2, 1/2), q = (1/4, 3/4): by hand.
        ("forward_kl", 0.5 * math.log(2) + 0.5 * math.log(2 / 3)),
        ("reverse_kl", 0.25 * math.log(0.5) + 0.75 * math.log(1.5)),
    ],
)
def test_worked_by_hand(name, expected):
    p, q = torch.tensor([0.5, 0.5]).double().log(), torch.tensor([0.25, 0.75]).double().log()
    assert DIVERGENCES[name].function(p, q).item() == pytest.approx(expected, abs=1e-15)


def test_gradients_in_the_logits_have_their_closed_forms():
    p, z = logp(6, 8, seed=1), torch.randn(6, 8, dtype=torch.float64)

    def total(name, logits):
        return DIVERGENCES[name].function(p, logits.log_softmax(-1)).sum()

    q = z.softmax(-1)
    forward = grad(functools.partial(total, "forward_kl"))(z)
    torch.testing.assert_close(forward, q - p.exp())
    ratio = q.log() - p
    reverse = grad(functools.partial(total, "reverse_kl"))(z)
    torch.testing.assert_close(reverse, q * (ratio - (q * ratio).sum(-1, keepdim=True)))
