"""A plan inside other trainers: plain transformers, TRL's SFTTrainer and GKDTrainer."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import TrainerCallback

from conftest_models import random_rows, tiny_model
from tutelage import follow_plan
from tutelage.curriculum import CurriculumOptions, LearningRate, PlanSettings, compile_plan
from tutelage.data.arithmetic import arithmetic_examples, build_tokenizer
from tutelage.data.collate import collate
from tutelage.errors import ConfigError, DataError
from tutelage.types import DifficultyProfile


def plan_of(ids, batch_size=6, **options):
    profile = DifficultyProfile(tuple(ids), np.linspace(0.5, 3.0, len(ids)))
    curriculum = CurriculumOptions(
        "calibrated", 3, passes=2, remainder="drop", restart=options.pop("restart", False)
    )
    values = {"distill_temperature": {"kind": "linear", "start": 1.0, "end": 2.0}}
    return compile_plan(
        profile, PlanSettings(curriculum, batch_size=batch_size, **{**values, **options})
    )


class Foreign(Trainer):
    """Somebody else's trainer, with a temperature of its own and a record of its batches."""

    temperature = 1.0

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        self.seen.append((self.state.global_step, self.temperature, inputs["input_ids"]))
        return super().compute_loss(
            model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
        )


def foreign(folder, rows, **options):
    arguments = {
        "output_dir": str(folder),
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 2,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        **options,
    }
    trainer = Foreign(
        tiny_model(seed=1, attention_dropout=0.1),
        TrainingArguments(**arguments),
        data_collator=lambda items: collate(items, 0),
        train_dataset=rows,
    )
    trainer.seen = []
    return trainer


def rows_of_step(plan, step, ids, rows):
    by_id = dict(zip(ids, rows["input_ids"], strict=True))
    return sorted(by_id[plan.ids[i]] for i in plan.positions(step))


def unpadded(batch, rows):
    known = {tuple(row) for row in rows["input_ids"]}
    found = []
    for row in batch.tolist():
        length = next(n for n in range(len(row), 0, -1) if tuple(row[:n]) in known)
        found.append(row[:length])
    return found


def test_batches_values_and_learning_rates_are_the_plans(tmp_path):
    rows = random_rows(24)
    plan = plan_of(rows["id"], learning_rate=LearningRate("linear", warmup_ratio=0.2))
    trainer = foreign(tmp_path, rows)
    follow_plan(trainer, plan, values={"distill_temperature": "temperature"})
    trainer.train()
    assert trainer.state.global_step == plan.total_steps
    for step in range(plan.total_steps):
        here = [entry for entry in trainer.seen if entry[0] == step]
        assert len(here) == 2 and {t for _, t, _ in here} == {plan.distill_temperature[step]}
        got = sorted(row for _, _, batch in here for row in unpadded(batch, rows))
        assert got == rows_of_step(plan, step, rows["id"], rows)
    log = [row for row in trainer.state.log_history if "loss" in row]
    assert [row["learning_rate"] for row in log] == pytest.approx(1e-2 * plan.lr_factor)
    assert [row["distill_temperature"] for row in log] == plan.distill_temperature.tolist()
    assert [row["stage"] for row in log] == plan.step_stage.tolist()


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    rows = random_rows(24)
    plan = plan_of(rows["id"], restart=True)

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **keywords):
            control.should_training_stop = state.global_step == 4

    def train(folder, *callbacks, resume=None):
        trainer = foreign(folder, rows, save_strategy="steps", save_steps=4)
        follow_plan(trainer, plan)
        for callback in callbacks:
            trainer.add_callback(callback)
        trainer.train(resume_from_checkpoint=resume)
        return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])

    whole = train(tmp_path / "whole")
    train(tmp_path / "cut", Stop())
    resumed = train(tmp_path / "cut", resume=str(tmp_path / "cut" / "checkpoint-4"))
    assert torch.equal(whole, resumed)


def test_the_trainers_own_learning_rate_may_stay(tmp_path):
    rows = random_rows(24)
    plan = plan_of(rows["id"])
    trainer = foreign(tmp_path, rows, lr_scheduler_type="constant")
    follow_plan(trainer, plan, learning_rate=False)
    trainer.train()
    log = [row["learning_rate"] for row in trainer.state.log_history if "loss" in row]
    assert log == [1e-2] * plan.total_steps


def test_what_cannot_work_is_refused(tmp_path):
    rows = random_rows(24)
    plan = plan_of(rows["id"])
    bare = rows.remove_columns("id")
    with pytest.raises(DataError, match="no column 'id'"):
        follow_plan(foreign(tmp_path, bare), plan)
    with pytest.raises(DataError, match="23 ids were passed for 24 rows"):
        follow_plan(foreign(tmp_path, bare), plan, ids=rows["id"][:23])
    follow_plan(foreign(tmp_path, bare), plan, ids=rows["id"])
    with pytest.raises(DataError, match="does not have"):
        follow_plan(foreign(tmp_path, rows.select(range(5))), plan)
    with pytest.raises(ConfigError, match="Did you mean 'temperature'"):
        follow_plan(foreign(tmp_path, rows), plan, values={"distill_temperature": "temperatur"})
    with pytest.raises(ConfigError, match="Unknown scheduled value 'tau'"):
        follow_plan(foreign(tmp_path, rows), plan, values={"tau": "temperature"})
    with pytest.raises(ConfigError, match="remainder='drop'"):
        small = plan_of(rows["id"], batch_size=1)
        follow_plan(foreign(tmp_path, rows), small)
    with pytest.raises(ConfigError, match="has steps on the student's own answers"):
        follow_plan(foreign(tmp_path, rows), plan_of(rows["id"], on_policy=0.5))
    weighed = dataclasses.replace(plan, visit_weight=np.ones(len(plan.visits)))
    with pytest.raises(ConfigError, match="has weights of examples"):
        follow_plan(foreign(tmp_path, rows), weighed)


# ---- TRL ---------------------------------------------------------------------------------------


@pytest.fixture
def sums(monkeypatch):
    """Prompt and completion rows of the embedded task, as TRL takes them, and its tokenizer."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    pytest.importorskip("trl")
    import datasets

    examples = arithmetic_examples("train", 24, seed=0, label_noise=0.0, levels=[1, 2])
    rows = [
        {"id": e.id, "prompt": e.fields["prompt"], "completion": e.completion} for e in examples
    ]
    return datasets.Dataset.from_list(rows), build_tokenizer()


SMALL = {
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 2,
    "save_strategy": "no",
    "logging_steps": 1,
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
}


def test_trls_sft_trainer_follows_a_plan(tmp_path, sums):
    from trl import SFTConfig, SFTTrainer

    rows, tokenizer = sums
    plan = plan_of(rows["id"])
    trainer = SFTTrainer(
        tiny_model(seed=1, vocab=len(tokenizer)),
        SFTConfig(output_dir=str(tmp_path), **SMALL),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    follow_plan(trainer, plan, ids=rows["id"])
    text = {r["id"]: r["prompt"] + r["completion"] for r in rows}
    batches = list(trainer.get_train_dataloader())
    assert len(batches) == 2 * plan.total_steps
    for step in range(plan.total_steps):
        got = [
            tokenizer.decode(row, skip_special_tokens=True).replace(" ", "")
            for batch in batches[2 * step : 2 * step + 2]
            for row in batch["input_ids"]
        ]
        assert sorted(got) == sorted(text[plan.ids[i]] for i in plan.positions(step))
    trainer.train()
    assert trainer.state.global_step == plan.total_steps


def test_trls_gkd_trainer_takes_the_scheduled_values(tmp_path, sums):
    gkd = pytest.importorskip("trl.experimental.gkd")

    rows, tokenizer = sums
    chats = rows.map(
        lambda row: {
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ]
        },
        remove_columns=["prompt", "completion"],
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    plan = plan_of(rows["id"], student_share={"kind": "shifted"})
    trainer = gkd.GKDTrainer(
        model=tiny_model(seed=1, vocab=len(tokenizer)),
        teacher_model=tiny_model(seed=2, vocab=len(tokenizer)),
        args=gkd.GKDConfig(output_dir=str(tmp_path), lmbda=0.0, max_length=48, **SMALL),
        train_dataset=chats,
        processing_class=tokenizer,
    )
    seen = []

    def put(value):
        trainer.temperature = value
        seen.append(value)

    follow_plan(
        trainer,
        plan,
        ids=rows["id"],
        values={"distill_temperature": put, "student_share": "beta"},
    )
    trainer.train()
    assert seen == plan.distill_temperature.tolist()
    assert trainer.beta == plan.student_share[-1]
    assert trainer.state.global_step == plan.total_steps
