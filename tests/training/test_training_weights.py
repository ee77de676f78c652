"""What examples and tokens count in a step: the loss is a weighted mean, however a step is cut."""

import dataclasses

import numpy as np
import pytest
import torch
from test_training_trainer import cpd_plan, history, make, weights

from conftest_models import tiny_model


def weighed_plan(rows, **options):
    plan = cpd_plan(rows, distill_temperature=1.0, student_share=0.0, **options)
    counts = np.random.default_rng(3).random(len(plan.ids)) + 0.1
    return dataclasses.replace(plan, visit_weight=counts[plan.visits])


def by_hand(rows, plan, token_weights):
    """Plain PyTorch, one example at a time; weights of tokens from q, p and the step."""
    student, teacher = tiny_model(seed=1), tiny_model(seed=2, hidden=24, layers=3)
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-2)
    by_id = {row["id"]: row for row in rows}
    for step in range(plan.total_steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * plan.lr_factor[step]
        above, below = 0.0, 0.0
        for visit, position in enumerate(plan.positions(step), plan.offsets[step]):
            row = by_id[plan.ids[position]]
            ids = torch.tensor([row["input_ids"]])
            start = row["labels"].count(-100)
            q = student(ids).logits[0, start - 1 : -1].log_softmax(-1)
            with torch.no_grad():
                p = teacher(ids).logits[0, start - 1 : -1].softmax(-1)
            w = plan.ce_weight[step]
            ce = -q[range(len(q)), ids[0, start:]]
            count = token_weights(q.detach(), p, step, visit)
            above = above + (count * (w * ce + (1 - w) * (p * (p.log() - q)).sum(-1))).sum()
            below += count.sum()
        optimizer.zero_grad()
        (above / below).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in student.parameters()])


@pytest.mark.parametrize("accumulation", [1, 3])
def test_examples_count_as_the_plan_says(tmp_path, rows, accumulation):
    plan = weighed_plan(rows)
    trainer = make(
        tmp_path, rows, plan=plan, student=tiny_model(seed=1), optim="sgd", weight_decay=0.0,
        gradient_accumulation_steps=accumulation, per_device_train_batch_size=6 // accumulation,
        micro_batch_tokens=24,
    )  # fmt: skip
    trainer.train()
    expected = by_hand(
        rows, plan, lambda q, p, step, visit: torch.full((len(q),), plan.visit_weight[visit])
    )
    torch.testing.assert_close(weights(trainer), expected, rtol=1e-4, atol=1e-6)
    for row in history(tmp_path):
        assert row["loss"] == pytest.approx(0.3 * row["ce"] + 0.7 * row["kd"], rel=1e-5)


def test_equal_weights_are_none(tmp_path, rows):
    plan = cpd_plan(rows)
    same = dataclasses.replace(plan, visit_weight=np.full(len(plan.visits), 0.3))
    found = []
    for name, one in (("plain", plan), ("same", same)):
        trainer = make(tmp_path / name, rows, plan=one, student=tiny_model(seed=1))
        trainer.train()
        found.append(weights(trainer))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_a_step_in_which_nothing_counts_changes_nothing(tmp_path, rows):
    plan = cpd_plan(rows)
    none = dataclasses.replace(plan, visit_weight=np.zeros(len(plan.visits)))
    student = tiny_model(seed=1)
    before = torch.cat([p.detach().flatten().clone() for p in student.parameters()])
    trainer = make(tmp_path, rows, plan=none, student=student, optim="sgd", weight_decay=0.0)
    trainer.train()
    assert torch.equal(weights(trainer), before)
