"""Micro-batches by tokens, and batches without padding: the same step, cut and laid otherwise."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest_models import random_rows, tiny_model
from tutelage import DistillConfig, DistillTrainer
from tutelage.data.collate import collate
from tutelage.training.budget import split_by_tokens


def a_batch(lengths):
    rows = [{"input_ids": [7] * n, "labels": [-100] * (n - 1) + [7]} for n in lengths]
    return {**collate(rows, 0), "step": 3, "ids": [f"e{i}" for i in range(len(rows))]}


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    budget=st.integers(1, 40),
    packed=st.booleans(),
)
def test_parts_keep_every_row_and_the_budget(lengths, budget, packed):
    batch = a_batch(lengths)
    parts = list(split_by_tokens(batch, budget, packed=packed))
    assert [i for part in parts for i in part["ids"]] == batch["ids"]
    seen = [int(n) for part in parts for n in part["attention_mask"].sum(1)]
    assert seen == lengths
    for part in parts:
        assert part["step"] == 3
        assert part["input_ids"].shape[1] == int(part["attention_mask"].sum(1).max())
        size = part["attention_mask"].sum() if packed else part["attention_mask"].numel()
        assert size <= budget or len(part["ids"]) == 1


def test_without_a_budget_and_without_tokens_there_is_one_part():
    batch = a_batch([3, 5])
    assert len(list(split_by_tokens(batch, None, packed=True))) == 1
    filler = {**collate([None], 0), "step": 0, "ids": []}
    assert len(list(split_by_tokens(filler, 4, packed=False))) == 1


def trajectory(folder, **options):
    student, teacher = tiny_model(seed=1), tiny_model(seed=2, hidden=24, layers=3)
    settings = {"max_steps": 4, "learning_rate": 1e-2, "seed": 3, "report_to": []}
    config = DistillConfig(
        str(folder), logging_steps=1, use_cpu=True, disable_tqdm=True, **settings, **options
    )
    trainer = DistillTrainer(student, config, random_rows(), teacher=teacher)
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return losses, student, trainer


@pytest.mark.parametrize(
    "options",
    [
        {"padding_free": True},
        {"padding_free": True, "micro_batch_tokens": 20},
        {"padding_free": False, "micro_batch_tokens": 20},
        {"padding_free": True, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    ],
)
def test_a_step_does_not_depend_on_how_it_is_laid_out(tmp_path, options):
    plain, student, _ = trajectory(
        tmp_path / "a", padding_free=False, per_device_train_batch_size=8
    )
    size = {} if "per_device_train_batch_size" in options else {"per_device_train_batch_size": 8}
    losses, other, _ = trajectory(tmp_path / "b", **size, **options)
    assert losses == pytest.approx(plain, rel=1e-4)
    for name, parameter in student.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], parameter, rtol=1e-3, atol=1e-4)


def test_a_saved_student_names_no_attention_of_ours(tmp_path):
    _, student, trainer = trajectory(tmp_path, per_device_train_batch_size=8)
    assert trainer.step_loss.packed
    student.save_pretrained(tmp_path / "student")
    assert "tutelage" not in json.dumps(json.loads((tmp_path / "student/config.json").read_text()))
