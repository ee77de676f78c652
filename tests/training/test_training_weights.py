"""What examples and tokens count in a step: the loss is a weighted mean, however a step is cut."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from test_training_trainer import cpd_plan, history, make, weights

from conftest_models import tiny_model
from tutelage.errors import ConfigError
from tutelage.recipe import load_recipe
from tutelage.targets import TOKEN_CHOICES
from tutelage.targets.tokens import highest, kept_counts


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


def entropy(q, p):
    return -(q.exp() * q).sum(-1)


def wrong(q, p):
    best = q.argmax(-1, keepdim=True)
    return (q.exp().gather(-1, best) - p.gather(-1, best))[:, 0]


@pytest.mark.parametrize(
    ("choice", "score"), [("student_entropy", entropy), ("confident_errors", wrong)]
)
@pytest.mark.parametrize(("accumulation", "weighing"), [(1, False), (3, False), (2, True)])
def test_the_highest_tokens_of_each_answer_are_learned_from(
    tmp_path, rows, choice, score, accumulation, weighing
):
    share = {"kind": "linear", "start": 1.0, "end": 0.3}
    plan = weighed_plan(rows, token_share=share)
    if not weighing:
        plan = dataclasses.replace(plan, visit_weight=np.empty(0))
    trainer = make(
        tmp_path, rows, plan=plan, student=tiny_model(seed=1), optim="sgd", weight_decay=0.0,
        gradient_accumulation_steps=accumulation, per_device_train_batch_size=6 // accumulation,
        micro_batch_tokens=24, tile_tokens=5, tokens=choice,
    )  # fmt: skip
    trainer.train()

    def chosen(q, p, step, visit):
        count = math.ceil(plan.token_share[step] * len(q) - 1e-9)
        best = sorted(range(len(q)), key=lambda i: -score(q, p)[i].item())[:count]
        weight = torch.zeros(len(q))
        weight[best] = plan.visit_weight[visit] if weighing else 1.0
        return weight

    torch.testing.assert_close(weights(trainer), by_hand(rows, plan, chosen), rtol=1e-4, atol=1e-6)
    tokens = [row["response_tokens"] for row in history(tmp_path)]
    lengths = {row["id"]: sum(label >= 0 for label in row["labels"]) for row in rows}
    for step, counted in enumerate(tokens):
        assert counted == sum(lengths[plan.ids[i]] for i in plan.positions(step)), "all are read"


def test_tokens_by_hand():
    scores = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.2, 7.0, 1.0])
    counts = torch.tensor([5, 0, 2])
    assert highest(scores, counts, 0.4).tolist() == [1, 2, 5]
    assert highest(scores, counts, 0.01).tolist() == [1, 5]
    assert highest(scores, counts, 1.0).tolist() == list(range(7))
    assert kept_counts(torch.tensor([0, 1, 5, 10]), 0.2).tolist() == [0, 1, 1, 2]
    # What a cut teacher does not name, it does not say.
    student = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]]).log()
    teacher, kept = torch.tensor([[0.4, 0.6], [0.9, 0.1]]).log(), torch.tensor([[0], [0]])
    found = TOKEN_CHOICES["confident_errors"].function(student, teacher, kept)
    assert found.tolist() == pytest.approx([0.3, 0.7])


def test_shares_and_choices_go_together(tmp_path, rows):
    with pytest.raises(ConfigError, match="token_share"):
        make(tmp_path, rows, plan=cpd_plan(rows, token_share=0.5))
    whole = cpd_plan(rows, token_share=0.5, ce_weight=1.0)
    with pytest.raises(ConfigError, match="chosen with the teacher"):
        make(tmp_path, rows, plan=whole, tokens="confident_errors")
    make(tmp_path, rows, plan=whole, tokens="student_entropy").train()
    for changes, words in (
        (["loss.token_share=0.5"], r"loss\.tokens: goes with loss\.token_share"),
        (["loss.tokens={kind: student_entropy}"], r"loss\.tokens: goes with"),
        (["loss.second_share=0.5"], r"loss\.second_divergence: goes with"),
        (
            ["loss.tokens={kind: confident_errors}", "loss.token_share=0.5", "loss.ce_weight=1"],
            r"loss\.tokens: asks the teacher about every token, and where ce_weight is 1",
        ),
        (
            ["loss.ce_trust=agreed", "loss.ce_weight={kind: linear, start: 0, end: 1}"],
            r"loss\.ce_trust: asks the teacher about every token",
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            load_recipe("kld", changes, partial=True)
