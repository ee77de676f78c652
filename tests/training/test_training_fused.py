"""The loss that a compiler gets, without the compiler: value, parts and gradient of the other."""

import pytest
import torch

from tutelage.training import fused as module
from tutelage.training.fused import fused, loss_and_gradient, pays
from tutelage.training.written_out import written_out


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    monkeypatch.setattr(module, "_compiled", lambda: loss_and_gradient)
    monkeypatch.setattr(module, "_failed", [])


@pytest.mark.parametrize("ce_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("tau", "left"), [(1.0, 1.0), (2.0, 2.0), (0.5, 1.0)])
def test_it_is_what_is_written_out(ce_weight, tau, left):
    torch.manual_seed(0)
    logits, teacher = (3 * torch.randn(2, 13, 97)).unbind()
    teacher[0, 5] = -torch.inf
    logits[3, 8], teacher[3, 8] = 60.0, 60.0  # a token of which both are sure
    targets = torch.randint(97, (13,))
    settings = {"ce_weight": ce_weight, "temperature": tau, "scale": tau**2}
    wide = (teacher.double() / left).log_softmax(-1)
    wanted = written_out(logits.double(), targets, wide.clone(), **settings)
    spent = logits.clone()
    found = fused(spent, targets, teacher, teacher_temperature=left, **settings)
    assert found is not None and found[3] is spent, "the gradient is where the logits were"
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-5, atol=1e-6)


def test_where_it_cannot_be_compiled_nothing_is_lost(monkeypatch, caplog):
    def broken(*arguments):
        raise RuntimeError("no compiler here\nand much more")

    monkeypatch.setattr(module, "_compiled", lambda: broken)
    logits = torch.randn(3, 7)
    before, settings = logits.clone(), {"ce_weight": 0.0, "temperature": 1.0, "scale": 1.0}
    for _ in range(2):
        assert (
            fused(logits, torch.tensor([1, 2, 3]), before, teacher_temperature=1.0, **settings)
            is None
        )
    assert torch.equal(logits, before)
    assert [r.getMessage() for r in caplog.records] == [
        "The loss could not be compiled (RuntimeError: no compiler here), so it runs operation by"
        " operation, which takes longer."
    ]


def test_short_trainings_and_small_vocabularies_are_not_worth_it():
    assert not pays(torch.device("cuda"), 299, 150_000)
    assert not pays(torch.device("cuda"), 5000, 500)
    assert not pays(torch.device("cpu"), 5000, 150_000)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_loss_with_it_is_the_loss_without(temperature):
    from conftest_models import tiny_model
    from tutelage.divergences import forward_kl
    from tutelage.targets import probability_mix
    from tutelage.teachers import LiveTeacher
    from tutelage.training.loss import DistillLoss, StepValues

    torch.manual_seed(0)
    student, teacher = tiny_model(seed=1, vocab=50), tiny_model(seed=2, vocab=50)
    width = student.config.hidden_size
    hidden, other = torch.randn(2, 21, width).unbind()
    targets = torch.randint(48, (21,))
    found = []
    for compiled in (False, True):
        loss = DistillLoss(forward_kl, probability_mix, 48, tile_tokens=8, compiled=compiled)
        states, values = hidden.clone().requires_grad_(), StepValues(0.0, temperature, 0.3)
        student.zero_grad()
        sums = loss(student, states, targets, values, LiveTeacher(teacher, 48), other)
        sums.total.backward()
        head = student.get_output_embeddings().weight.grad.clone()
        found.append((sums.total.detach(), sums.parts, states.grad, head))
    for ours, theirs in zip(*reversed(found), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
