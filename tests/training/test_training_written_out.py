"""The gradient that is written out is the one that autograd finds."""

import functools

import pytest
import torch

from tutelage.divergences import DIVERGENCES
from tutelage.models.head import LogitTransform
from tutelage.targets import TARGETS
from tutelage.teachers.live import LogitTile
from tutelage.training.loss import DistillLoss, StepValues
from tutelage.training.tiles import Block

ROWS, VOCAB = 6, 23


def loss_of(divergence="forward_kl", target="probability_mix", **settings):
    return DistillLoss(
        DIVERGENCES[divergence].function, TARGETS[target].function, VOCAB, **settings
    )


def block(dtype=torch.float64, teacher=True, impossible=False):
    generator = torch.Generator().manual_seed(3)

    def logits():
        return 2 * torch.randn(ROWS, VOCAB, generator=generator, dtype=dtype)

    student, theirs = logits(), logits()
    targets = torch.randint(VOCAB - 3, (ROWS,), generator=generator)
    student[0] = theirs[0]  # they agree
    if impossible:
        student[:, -1] = theirs[:, -1] = -torch.inf  # for both
        theirs[1, -2] = -torch.inf  # for the teacher alone
        student[2, -3] = -torch.inf  # for the student alone
    tile = (LogitTile(theirs, LogitTransform()), slice(0, ROWS)) if teacher else None
    return Block(student, targets, tile)


def by_autograd(loss, one, values):
    logits = one.logits_rV.clone().requires_grad_()
    total, parts = loss.block_sums(Block(logits, one.targets_r, one.teacher), values)
    return total.detach(), parts, torch.autograd.grad(total, logits)[0]


@pytest.mark.parametrize("impossible", [False, True])
@pytest.mark.parametrize("tau2", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("ce_weight", [0.0, 0.3])
def test_forward_kl(ce_weight, temperature, tau2, impossible):
    loss = loss_of(tau2_scaling=tau2)
    values = StepValues(0.0, temperature, ce_weight)
    made = loss.written_out(block(impossible=impossible), values)
    assert made is not None
    for ours, theirs in zip(
        made, by_autograd(loss, block(impossible=impossible), values), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


def test_cross_entropy_alone():
    values = StepValues(0.0, 1.0, 1.0)
    loss, one = loss_of("jsd"), block(teacher=False)
    for ours, theirs in zip(
        loss.written_out(one, values), by_autograd(loss, one, values), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


def test_equal_distributions_are_no_distance_apart():
    one = block(torch.float32)
    same = Block(
        one.logits_rV, one.targets_r, (LogitTile(one.logits_rV, LogitTransform()), slice(0, ROWS))
    )
    total, parts, gradient = loss_of().written_out(same, StepValues(0.0, 1.0, 0.0))
    assert total == 0 and not gradient.any() and parts[2] == ROWS


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        ({"divergence": "reverse_kl"}, StepValues(0.0, 1.0, 0.3)),
        ({"target": "logit_mix"}, StepValues(0.0, 1.0, 0.3)),
        ({"top_k": 3}, StepValues(0.0, 1.0, 0.3)),
        ({"target_entropy": True}, StepValues(0.0, 1.0, 0.3)),
        ({"ce_trust": "agreed"}, StepValues(0.0, 1.0, 0.3)),
        ({"second": DIVERGENCES["reverse_kl"].function}, StepValues(0.0, 1.0, 0.3, 0.5)),
        ({}, StepValues(0.2, 1.0, 0.3)),
    ],
)
def test_everything_else_is_left_to_autograd(settings, values):
    assert loss_of(**settings).written_out(block(), values) is None


def test_options_that_change_a_component_are_left_to_autograd():
    bound = functools.partial(TARGETS["probability_mix"].function, detach=True)
    loss = DistillLoss(functools.partial(DIVERGENCES["forward_kl"].function), bound, VOCAB)
    assert loss.written_out(block(), StepValues(0.0, 1.0, 0.0)) is None


def test_tokens_that_count_differently_are_left_to_autograd():
    one = block()
    weighed = Block(one.logits_rV, one.targets_r, one.teacher, torch.ones(ROWS))
    assert loss_of().written_out(weighed, StepValues(0.0, 1.0, 0.0)) is None
