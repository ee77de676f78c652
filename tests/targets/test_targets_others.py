"""TAID's target, ensembles of teachers, and the k likeliest tokens with a tail."""

import math

import numpy as np
import pytest
import scipy.special
import torch

from tutelage.divergences import DIVERGENCES, forward_kl
from tutelage.errors import ConfigError
from tutelage.targets import coarsen, logit_mix, mix_teachers


def logits(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
def test_logit_mix_is_the_softmax_of_mixed_logits(share):
    teacher, student = logits(1, 5, 9), logits(2, 5, 9)
    found = logit_mix(teacher.log_softmax(-1), student.log_softmax(-1), share)
    mixed = share * student.numpy() + (1 - share) * teacher.numpy()
    np.testing.assert_allclose(found, scipy.special.log_softmax(mixed, -1), atol=1e-12)


def test_taid_begins_without_a_gradient():
    teacher, student = logits(1, 5, 9).log_softmax(-1), logits(2, 5, 9).requires_grad_()
    logp = student.log_softmax(-1)
    forward_kl(logit_mix(teacher, logp, 1.0), logp).sum().backward()
    assert student.grad.abs().max() < 1e-15


def test_the_student_in_taids_target_is_a_constant():
    teacher, student = logits(1, 5, 9).log_softmax(-1), logits(2, 5, 9).requires_grad_()
    logp = student.log_softmax(-1)
    target = logit_mix(teacher, logp, 0.4)
    forward_kl(target, logp).sum().backward()
    # Forward KL to a constant target p has the gradient q - p in the logits.
    torch.testing.assert_close(student.grad, (logp.exp() - target.exp()).detach())
    assert logit_mix(teacher, logp, 0.4, detach=False).requires_grad
    assert not target.requires_grad


@pytest.mark.parametrize("who", ["teacher", "student"])
def test_logit_mix_survives_a_probability_of_zero(who):
    teacher, student = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([0.3, 0.1, 0.2])
    (teacher if who == "teacher" else student)[1] = -math.inf
    student.requires_grad_()
    logp = student.log_softmax(-1)
    for share in (0.0, 0.5, 1.0):
        value = forward_kl(logit_mix(teacher.log_softmax(-1), logp, share), logp)
        (grad,) = torch.autograd.grad(value, student, retain_graph=True)
        assert torch.isfinite(value) and torch.isfinite(grad).all()


@pytest.mark.parametrize("space", ["probability", "logit"])
def test_an_ensemble_is_the_weighted_mean(space):
    parts = [logits(seed, 4, 7).log_softmax(-1) for seed in (1, 2, 3)]
    weights = [1.0, 2.0, 5.0]
    found = mix_teachers(parts, weights, space=space)
    shares = np.asarray(weights) / 8
    stacked = np.stack([part.numpy() for part in parts])
    if space == "probability":
        expected = np.log(np.einsum("k,kij->ij", shares, np.exp(stacked)))
    else:
        expected = scipy.special.log_softmax(np.einsum("k,kij->ij", shares, stacked), -1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    torch.testing.assert_close(mix_teachers(parts[:1], [3.0], space=space), parts[0])


def test_what_one_teacher_excludes_the_two_spaces_treat_differently():
    one = torch.tensor([0.5, 0.5, 0.0]).log()
    two = torch.tensor([0.2, 0.3, 0.5]).log()
    assert mix_teachers([one, two], [1, 1]).exp()[2] == pytest.approx(0.25)
    assert mix_teachers([one, two], [1, 1], space="logit").exp()[2] == 0.0


@pytest.mark.parametrize(
    ("weights", "space", "words"),
    [
        ([1.0], "probability", "as many positive"),
        ([1, 0], "logit", "positive"),
        ([1, 1], "x", "space"),
    ],
)
def test_ensembles_that_do_not_fit_are_refused(weights, space, words):
    parts = [logits(seed, 4).log_softmax(-1) for seed in (1, 2)]
    with pytest.raises(ConfigError, match=words):
        mix_teachers(parts, weights, space=space)


# Bounded below by data processing: all f-divergences of the table.
F_DIVERGENCES = [
    "forward_kl",
    "reverse_kl",
    "symmetric_kl",
    "tvd",
    "hellinger",
    "jsd",
    "skl",
    "srkl",
]


@pytest.mark.parametrize("name", F_DIVERGENCES)
@pytest.mark.parametrize("k", [1, 4, 15])
def test_merging_the_tail_gives_a_lower_bound(name, k):
    divergence = DIVERGENCES[name].function
    p, q = logits(1, 200, 20).log_softmax(-1), logits(2, 200, 20).log_softmax(-1)
    few = divergence(*coarsen(p, q, p, k=k))
    assert few.shape == (200,)
    assert (few >= -1e-12).all() and (few <= divergence(p, q) + 1e-12).all()


def test_the_kept_tokens_are_the_teachers_likeliest_and_the_tail_is_the_rest():
    p, q = logits(1, 3, 8).log_softmax(-1), logits(2, 3, 8).log_softmax(-1)
    target, student = coarsen(p, q, p, k=3)
    for row in range(3):
        likeliest = np.argsort(-p[row].numpy())[:3]
        for found, whole in ((target, p), (student, q)):
            kept = np.exp(whole[row].numpy()[likeliest])
            np.testing.assert_allclose(found[row].exp(), [*kept, 1 - kept.sum()], atol=1e-12)


def test_keeping_almost_all_changes_nothing():
    p, q = logits(1, 6, 9).log_softmax(-1), logits(2, 6, 9).log_softmax(-1)
    for k in (8, 9, 100):
        torch.testing.assert_close(forward_kl(*coarsen(p, q, p, k=k)), forward_kl(p, q))


def test_a_tiny_tail_keeps_its_digits_and_its_gradient():
    student = torch.tensor([30.0, 0.0, 1.0, -5.0]).requires_grad_()
    teacher = torch.tensor([40.0, 0.0, 0.0, 0.0]).log_softmax(-1)
    target, merged = coarsen(teacher, student.log_softmax(-1), teacher, k=1)
    exact = scipy.special.logsumexp([0.0, 1.0, -5.0]) - 30
    assert merged[1].item() == pytest.approx(exact, rel=1e-5)
    forward_kl(target, merged).backward()
    assert torch.isfinite(student.grad).all()
    impossible = torch.tensor([0.0, -math.inf, -math.inf]).requires_grad_()
    _, none = coarsen(teacher[:3], impossible.log_softmax(-1), teacher[:3], k=1)
    assert none[1].exp() == 0
    forward_kl(*coarsen(teacher[:3], impossible.log_softmax(-1), teacher[:3], k=1)).backward()
    assert torch.isfinite(impossible.grad).all()
    with pytest.raises(ConfigError, match="top_k"):
        coarsen(teacher, teacher, teacher, k=0)
