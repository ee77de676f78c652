"""What every divergence must keep. A new row in DIVERGENCES is held to all of it."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy.special import entr, rel_entr
from torch.func import grad

from tutelage.divergences import DIVERGENCES
from tutelage.errors import ConfigError


def kl(p, q):
    return rel_entr(p, q).sum(-1)


def printed_alpha_beta(p, q, a, b):
    """ABKD as CPD's equation 20 prints it, and its four limits as Cichocki et al. print them."""
    if a and b and a + b:
        inside = p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)
        return -inside.sum(-1) / (a * b)
    if a and not b:
        return (p**a * np.log(p**a / q**a) - p**a + q**a).sum(-1) / a**2
    if b and not a:
        return (q**b * np.log(q**b / p**b) - q**b + p**b).sum(-1) / b**2
    if a:  # a = -b
        return (np.log(q**a / p**a) + (q**a / p**a) ** -1 - 1).sum(-1) / a**2
    return 0.5 * ((np.log(p) - np.log(q)) ** 2).sum(-1)


def mixed(p, q, w):
    return (1 - w) * p + w * q


# Slow references over the vocabulary in float64, written with scipy or by hand, for each row with
# several of its options.
CASES = {
    "forward_kl": ("forward_kl", {}, kl),
    "reverse_kl": ("reverse_kl", {}, lambda p, q: kl(q, p)),
    "symmetric_kl": ("symmetric_kl", {}, lambda p, q: ((p - q) * np.log(p / q)).sum(-1) / 2),
    "tvd": ("tvd", {}, lambda p, q: np.maximum(p - q, 0).sum(-1)),
    "hellinger": ("hellinger", {}, lambda p, q: 1 - np.sqrt(p * q).sum(-1)),
}
CASES["symmetric_kl-0.1"] = (
    "symmetric_kl",
    {"forward_weight": 0.1},
    lambda p, q: 0.1 * kl(p, q) + 0.9 * kl(q, p),
)
for by, openness in {
    "teacher_entropy": lambda p, q: 1 - np.exp(-entr(p).sum(-1)),
    "student_entropy": lambda p, q: 1 - np.exp(-entr(q).sum(-1)),
    "coverage": lambda p, q: 1 - np.minimum(p, q).sum(-1),
}.items():
    CASES[f"adaptive_kl-{by}"] = (
        "adaptive_kl",
        {"by": by},
        lambda p, q, w=openness: w(p, q) * kl(p, q) + (1 - w(p, q)) * kl(q, p),
    )
for beta in (0.1, 0.5, 0.9):
    CASES[f"jsd-{beta}"] = (
        "jsd",
        {"jsd_beta": beta},
        # Entropy of the mixture less the mean entropy.
        lambda p, q, b=beta: (
            entr(mixed(q, p, b)).sum(-1) - b * entr(p).sum(-1) - (1 - b) * entr(q).sum(-1)
        ),
    )
for skew in (0.0, 0.1, 0.5):
    CASES[f"skl-{skew}"] = ("skl", {"skew": skew}, lambda p, q, a=skew: kl(p, mixed(q, p, a)))
    CASES[f"srkl-{skew}"] = ("srkl", {"skew": skew}, lambda p, q, a=skew: kl(q, mixed(p, q, a)))
for lam in (0.0, 0.2, 0.9):
    CASES[f"bdl-{lam}"] = (
        "bdl",
        {"bdl_lambda": lam},
        lambda p, q, w=lam: kl(mixed(p, q, w), mixed(q, p, w)),
    )
for alpha, beta in (
    *((0.2, 0.7), (0.1, 0.8), (0.5, 0.5), (1.0, 1.0), (2.0, 0.3), (-0.3, 1.0)),
    *((1.0, 0.0), (0.0, 1.0), (0.6, 0.0), (0.0, 0.6), (0.5, -0.5), (0.0, 0.0)),
):
    CASES[f"alpha_beta-{alpha}-{beta}"] = (
        "alpha_beta",
        {"ab_alpha": alpha, "ab_beta": beta},
        lambda p, q, a=alpha, b=beta: printed_alpha_beta(p, q, a, b),
    )

NAMES = sorted(CASES)
BOUNDED = (
    "tvd",
    "hellinger",
    "jsd",
    "skl-0.1",
    "skl-0.5",
    "srkl-0.1",
    "srkl-0.5",
    "bdl-0.2",
    "bdl-0.9",
)
UNBOUNDED_GRADIENT = ("alpha_beta-0.0-0.0", "alpha_beta-0.5--0.5")


def function_of(case):
    name, options, _ = CASES[case]
    return functools.partial(DIVERGENCES[name].function, **options)


@pytest.fixture(params=NAMES)
def case(request):
    return request.param


@pytest.fixture
def divergence(case):
    return function_of(case)


def logp(*shape, seed=0, scale=2.0, dtype=torch.float64):
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator, dtype=dtype)).log_softmax(-1)


def test_every_row_has_a_reference():
    assert {name for name, _, _ in CASES.values()} == set(DIVERGENCES)


def test_equals_the_slow_reference(case, divergence):
    p, q = logp(5, 3, 11, seed=1), logp(5, 3, 11, seed=2)
    expected = CASES[case][2](p.exp().numpy(force=True), q.exp().numpy(force=True))
    np.testing.assert_allclose(divergence(p, q).cpu(), expected, rtol=1e-10)


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


def test_gradient_against_finite_differences(case, divergence):
    if case.startswith("adaptive_kl"):
        pytest.skip("its weight is a constant to the gradient; looked at below")
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


def test_float32_is_close_to_float64(case, divergence):
    if case in UNBOUNDED_GRADIENT:
        pytest.skip("the rounding of the least likely tokens' logarithms is not bounded here")
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


def test_deep_underflow_stays_finite_and_keeps_its_gradient(case, divergence):
    # Log-probabilities below -104 underflow in float32, but are no zeros.
    teacher = torch.tensor([0.0, -150.0, -1.0]).log_softmax(-1)
    student = torch.tensor([-150.0, 0.0, -1.0], requires_grad=True)
    value = divergence(teacher, student.log_softmax(-1))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(student.grad).all()
    if case.startswith(("forward", "reverse", "symmetric", "skl-0.0", "srkl-0.0", "bdl-0.0")):
        assert value > 40 and student.grad.abs().max() > 0.1
    elif case.startswith(BOUNDED):
        assert 0.2 < value < 3.0


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


def test_jsd_tends_to_kl_at_both_ends():
    p, q = logp(20, 30, seed=1), logp(20, 30, seed=2)
    jsd, forward, reverse = (
        DIVERGENCES[name].function for name in ("jsd", "forward_kl", "reverse_kl")
    )
    tiny = 1e-7
    close = functools.partial(torch.testing.assert_close, rtol=5e-4, atol=0)
    close(jsd(p, q, jsd_beta=tiny) / tiny, forward(p, q))
    close(jsd(p, q, jsd_beta=1 - tiny) / tiny, reverse(p, q))


def test_jsd_is_the_mean_of_the_two_skewed_ones_at_a_half():
    p, q = logp(20, 30, seed=1), logp(20, 30, seed=2)
    table = {name: row.function for name, row in DIVERGENCES.items()}
    halves = table["skl"](p, q, skew=0.5) + table["srkl"](p, q, skew=0.5)
    torch.testing.assert_close(table["jsd"](p, q, jsd_beta=0.5), halves / 2)


def test_special_points_of_alpha_beta():
    p, q = logp(20, 30, seed=1), logp(20, 30, seed=2)
    table = {name: row.function for name, row in DIVERGENCES.items()}
    alpha_beta = table["alpha_beta"]
    close = functools.partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)
    close(alpha_beta(p, q, ab_alpha=1, ab_beta=0), table["forward_kl"](p, q))
    close(alpha_beta(p, q, ab_alpha=0, ab_beta=1), table["reverse_kl"](p, q))
    close(alpha_beta(p, q, ab_alpha=0.5, ab_beta=0.5), 4 * table["hellinger"](p, q))
    square = 0.5 * (p.exp() - q.exp()).square().sum(-1)
    close(alpha_beta(p, q, ab_alpha=1, ab_beta=1), square)


@pytest.mark.parametrize("tiny", [1e-2, 1e-4, 1e-6, -1e-5])
@pytest.mark.parametrize("limit", [(0.7, 0.0), (0.0, 0.7), (0.5, -0.5), (0.0, 0.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_alpha_beta_runs_into_its_limits(limit, tiny, dtype):
    # Near the limit in both parameters; the printed formula divides by almost nothing there.
    p, q = logp(10, 12, seed=1).to(dtype), logp(10, 12, seed=2).to(dtype)
    alpha_beta = DIVERGENCES["alpha_beta"].function
    at = alpha_beta(p, q, ab_alpha=limit[0], ab_beta=limit[1])
    near = alpha_beta(p, q, ab_alpha=limit[0] + tiny, ab_beta=limit[1] + tiny / 3)
    torch.testing.assert_close(near, at, rtol=20 * abs(tiny) + 1e-4, atol=0)


def test_the_two_forms_of_alpha_beta_meet():
    p, q = logp(10, 200, seed=1, scale=5.0), logp(10, 200, seed=2, scale=5.0)
    alpha_beta = DIVERGENCES["alpha_beta"].function
    inside = alpha_beta(p, q, ab_alpha=0.6, ab_beta=0.05)
    outside = alpha_beta(p, q, ab_alpha=0.6, ab_beta=0.05 + 1e-9)
    torch.testing.assert_close(inside, outside, rtol=1e-7, atol=0)


def test_bounds():
    p, q = logp(50, 30, seed=1, scale=30.0), logp(50, 30, seed=2, scale=30.0)
    for case, bound in (
        ("jsd-0.5", math.log(2)),
        ("tvd", 1),
        ("hellinger", 1),
        ("skl-0.1", math.log(10)),
    ):
        assert (function_of(case)(p, q) <= bound + 1e-12).all()


def test_the_weight_of_adaptive_kl_is_a_constant_and_goes_to_both_ends():
    p, z = logp(6, 8, seed=1), torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    q = z.log_softmax(-1)
    table = {name: row.function for name, row in DIVERGENCES.items()}
    for by in ("teacher_entropy", "student_entropy", "coverage"):
        parts = [table[name](p, q) for name in ("forward_kl", "reverse_kl")]
        value = table["adaptive_kl"](p, q, by=by)
        weight = ((value - parts[1]) / (parts[0] - parts[1])).detach()
        assert ((weight > 0) & (weight < 1)).all()
        found = torch.autograd.grad(value.sum(), z, retain_graph=True)[0]
        mixed_parts = (weight * parts[0] + (1 - weight) * parts[1]).sum()
        torch.testing.assert_close(found, torch.autograd.grad(mixed_parts, z, retain_graph=True)[0])
    # Two tokens of one half each weigh a half; a certain teacher leaves reverse KL alone.
    even = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    skewed = torch.tensor([0.25, 0.75], dtype=torch.float64).log()
    assert table["adaptive_kl"](even, skewed).item() == pytest.approx(
        (table["forward_kl"](even, skewed) + table["reverse_kl"](even, skewed)).item() / 2
    )
    sure = torch.tensor([1.0, 0.0], dtype=torch.float64).log()
    assert table["adaptive_kl"](sure, skewed) == table["reverse_kl"](sure, skewed)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("jsd", {"jsd_beta": 0.0}),
        ("jsd", {"jsd_beta": 1.0}),
        ("skl", {"skew": 1.0}),
        ("srkl", {"skew": -0.1}),
        ("bdl", {"bdl_lambda": 0.5}),
    ],
)
def test_options_that_teach_nothing_are_refused(name, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        DIVERGENCES[name].function(logp(2, 3), logp(2, 3), **options)
