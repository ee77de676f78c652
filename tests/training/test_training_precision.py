"""Types of weights in training: float64 is exact, and nothing is lost in 16 bits."""

import pytest
import torch
from test_training_trainer import config, cpd_plan

from conftest_models import VOCAB, tiny_model
from tutelage import DistillTrainer
from tutelage.difficulty import example_losses
from tutelage.divergences import DIVERGENCES
from tutelage.evaluation import teacher_agreement
from tutelage.targets import TARGETS


def by_hand(student, teacher, rows, plan, divergence, learning_rate):
    """Steps of SGD with whole logits and autograd, one example at a time."""
    optimizer = torch.optim.SGD(student.parameters(), lr=1.0)
    by_id = {row["id"]: row for row in rows}
    mix, distance = TARGETS["probability_mix"].function, DIVERGENCES[divergence].function
    for step in range(plan.total_steps):
        optimizer.param_groups[0]["lr"] = learning_rate * plan.lr_factor[step]
        total, count = 0.0, 0
        for position in plan.positions(step):
            row = by_id[plan.ids[position]]
            ids, start = torch.tensor([row["input_ids"]]), row["labels"].count(-100)
            z = student(ids).logits[0, start - 1 : -1]
            with torch.no_grad():
                p = (teacher(ids).logits[0, start - 1 : -1] / tau(plan, step)).log_softmax(-1)
            q, w = (z / tau(plan, step)).log_softmax(-1), plan.ce_weight[step]
            kd = distance(mix(p, q, plan.student_share[step]), q).sum() * tau(plan, step) ** 2
            ce = torch.nn.functional.cross_entropy(z, ids[0, start:], reduction="sum")
            total = total + w * ce + (1 - w) * kd
            count += len(z)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in student.parameters()])


def tau(plan, step):
    return float(plan.distill_temperature[step])


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd", "alpha_beta", "tvd"])
def test_float64_trains_as_float64_autograd_does(tmp_path, rows, divergence):
    plan = cpd_plan(rows)
    student, teacher = tiny_model(seed=1).double(), tiny_model(seed=2, hidden=24).double()
    options = {"optim": "sgd", "weight_decay": 0.0, "max_grad_norm": 0.0, "learning_rate": 0.1}
    trainer = DistillTrainer(
        student,
        config(tmp_path, divergence=divergence, **options),
        rows,
        teacher=teacher,
        plan=plan,
    )
    trainer.train()
    found = torch.cat([p.detach().flatten() for p in student.parameters()])
    fresh = tiny_model(seed=1).double()
    before = torch.cat([p.detach().flatten() for p in fresh.parameters()])
    expected = by_hand(fresh, teacher, rows, plan, divergence, 0.1)
    assert found.dtype == torch.float64
    assert (found - expected).norm() < 1e-10 * (expected - before).norm()


def test_measures_of_float64_models_are_float64(rows):
    student, teacher = (tiny_model(seed=seed).double() for seed in (1, 2))
    found = example_losses(student, rows, vocab_size=VOCAB, entropies=True)
    agreement = teacher_agreement(student, teacher, rows, vocab_size=VOCAB, batch_tokens=64)
    expected = 0.0
    with torch.no_grad():
        for row in rows:
            ids, start = torch.tensor([row["input_ids"]]), row["labels"].count(-100)
            logp = student(ids).logits[0, start - 1 : -1].log_softmax(-1)
            expected -= float(logp[range(len(logp)), ids[0, start:]].sum())
    assert found.loss_sums.sum() == pytest.approx(expected, rel=1e-12)
    assert agreement.student_nll * agreement.num_tokens == pytest.approx(expected, rel=1e-12)
