"""The trainer carries out the plan; cutting a step up or interrupting it changes nothing."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers.trainer_callback import TrainerCallback

from conftest_models import random_rows, tiny_model
from tutelage import DistillConfig, DistillTrainer
from tutelage.curriculum import CurriculumOptions, LearningRate, PlanSettings, compile_plan
from tutelage.errors import ConfigError, DataError, NonFiniteLossError, RunFolderError
from tutelage.training.callbacks import MetricsFile, ValidateAndLog
from tutelage.training.checkpoints import checkpoints, is_complete, last_checkpoint
from tutelage.types import DifficultyProfile


def cpd_plan(rows, batch_size=6, stages=3, **options):
    profile = DifficultyProfile(tuple(rows["id"]), np.linspace(0.5, 3.0, len(rows)))
    options = {
        "student_share": {"kind": "shifted"},
        "distill_temperature": {"kind": "linear", "start": 1.0, "end": 2.0},
        "ce_weight": 0.3,
        "learning_rate": LearningRate("cosine", warmup_ratio=0.1),
        **options,
    }
    curriculum = CurriculumOptions("calibrated", stages, passes=1)
    return compile_plan(profile, PlanSettings(curriculum, batch_size=batch_size, **options))


def config(folder, **options):
    defaults = {
        "output_dir": str(folder),
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 6,
        "gradient_accumulation_steps": 1,
        "save_strategy": "no",
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 7,
    }
    return DistillConfig(**{**defaults, **options})


def make(folder, rows, *, plan=None, student=None, teacher=None, callbacks=None, **options):
    log = MetricsFile(folder / "metrics.jsonl")
    return DistillTrainer(
        student or tiny_model(seed=1, attention_dropout=0.1),
        config(folder, **options),
        rows,
        teacher=teacher or tiny_model(seed=2, hidden=24, layers=3),
        plan=plan,
        callbacks=[log, *(callbacks or [])],
    )


def history(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_carries_out_the_plan(tmp_path, rows):
    plan = cpd_plan(rows)
    trainer = make(tmp_path, rows, plan=plan)
    trainer.train()
    log = history(tmp_path)
    assert [row["step"] for row in log] == list(range(1, plan.total_steps + 1))
    assert [row["stage"] for row in log] == plan.step_stage.tolist()
    for name in ("student_share", "distill_temperature", "ce_weight"):
        assert [row[name] for row in log] == getattr(plan, name).tolist()
    assert [row["learning_rate"] for row in log] == pytest.approx(1e-2 * plan.lr_factor)
    for row in log:
        expected = row["ce_weight"] * row["ce"] + (1 - row["ce_weight"]) * row["kd"]
        assert row["loss"] == pytest.approx(expected, rel=1e-5)
        assert 0 <= row["token_agreement"] <= 1
        assert row["teacher"] == "teacher"


def test_sees_exactly_the_planned_examples(tmp_path, rows):
    plan = cpd_plan(rows)
    trainer = make(tmp_path, rows, plan=plan, gradient_accumulation_steps=2)
    seen = {}
    for batch in trainer.get_train_dataloader():
        seen.setdefault(batch["step"], []).extend(batch["ids"])
    for step in range(plan.total_steps):
        assert sorted(seen[step]) == sorted(plan.ids[i] for i in plan.positions(step))


def test_training_lowers_the_loss(tmp_path, rows):
    plan = cpd_plan(rows, student_share=0.0, distill_temperature=1.0)
    repeated = compile_plan(
        DifficultyProfile(plan.ids, np.ones(len(rows))),
        PlanSettings(
            CurriculumOptions("random", 20), batch_size=8, learning_rate=LearningRate("constant")
        ),
    )
    make(tmp_path, rows, plan=repeated).train()
    log = history(tmp_path)
    assert log[-1]["kd"] < 0.5 * log[0]["kd"]


@pytest.mark.parametrize("accumulation", [2, 3, 6])
def test_accumulation_changes_nothing(tmp_path, rows, accumulation):
    plan = cpd_plan(rows)
    logs = []
    for steps in (1, accumulation):
        folder = tmp_path / str(steps)
        student = tiny_model(seed=1)
        trainer = make(
            folder,
            rows,
            plan=plan,
            student=student,
            gradient_accumulation_steps=steps,
            per_device_train_batch_size=6 // steps,
        )
        trainer.train()
        logs.append(history(folder))
    for a, b in zip(*logs, strict=True):
        for name in ("loss", "ce", "kd", "grad_norm", "token_agreement"):
            assert a[name] == pytest.approx(b[name], rel=2e-5, abs=1e-7)


def test_matches_a_loop_written_by_hand(tmp_path, rows):
    """Three steps with plain PyTorch: whole logits, one example at a time."""
    plan = cpd_plan(rows, distill_temperature=1.0)
    student, teacher = tiny_model(seed=1), tiny_model(seed=2, hidden=24, layers=3)
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-2)
    by_id = {row["id"]: row for row in rows}
    for step in range(plan.total_steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * plan.lr_factor[step]
        total, count = 0.0, 0
        for position in plan.positions(step):
            row = by_id[plan.ids[position]]
            ids = torch.tensor([row["input_ids"]])
            start = row["labels"].count(-100)
            q = student(ids).logits[0, start - 1 : -1].log_softmax(-1)
            with torch.no_grad():
                p = teacher(ids).logits[0, start - 1 : -1].softmax(-1)
            t, w = plan.student_share[step], plan.ce_weight[step]
            m = t * q.exp() + (1 - t) * p
            total = total + (1 - w) * (m * (m.log() - q)).sum()
            total = total - w * q[range(len(q)), ids[0, start:]].sum()
            count += len(q)
        optimizer.zero_grad()
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
    trained = tiny_model(seed=1)
    trainer = make(tmp_path, rows, plan=plan, student=trained, optim="sgd", weight_decay=0.0)
    trainer.train()
    expected = torch.cat([p.detach().flatten() for p in student.parameters()])
    torch.testing.assert_close(weights(trainer), expected, rtol=1e-4, atol=1e-6)


class KillAt(TrainerCallback):
    """Stop like a killed process: in the middle of a step, without saving."""

    def __init__(self, step, substep=False):
        self.step, self.substep = step, substep

    def _check(self, state):
        if state.global_step == self.step:
            raise KeyboardInterrupt

    def on_step_end(self, args, state, control, **keywords):
        if not self.substep:
            self._check(state)

    def on_substep_end(self, args, state, control, **keywords):
        if self.substep:
            self._check(state)


@pytest.mark.parametrize(("kill_at", "substep"), [(2, False), (5, True), (7, False), (8, True)])
def test_resume_is_exact_to_the_bit(tmp_path, rows, kill_at, substep):
    plan = cpd_plan(rows, batch_size=4)
    options = {
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 2,
        "save_strategy": "steps",
        "save_steps": 3,
        "logging_steps": 2,
    }
    whole = make(tmp_path / "whole", rows, plan=plan, callbacks=[ValidateAndLog()], **options)
    whole.train()
    folder = tmp_path / "broken"
    broken = make(
        folder, rows, plan=plan, callbacks=[ValidateAndLog(), KillAt(kill_at, substep)], **options
    )
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    # A half-written newer checkpoint must not be believed.
    newest = last_checkpoint(folder)
    fake = folder / "checkpoint-99"
    if newest is not None:
        shutil.copytree(newest, fake)
        (fake / "model.safetensors").write_bytes(b"cut short")
    assert last_checkpoint(folder) == newest
    resumed = make(folder, rows, plan=plan, callbacks=[ValidateAndLog()], **options)
    resumed.train(resume_from_checkpoint=str(newest) if newest else None)
    assert torch.equal(weights(whole), weights(resumed))
    strip = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in history(f)]
        for f in (tmp_path / "whole", folder)
    ]
    assert strip[0] == strip[1]


@pytest.mark.parametrize("asked", ["path", True])
def test_nothing_is_trained_from_a_checkpoint_at_the_limit(tmp_path, rows, asked):
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "logging_steps": 1}
    whole = make(tmp_path, rows, plan=cpd_plan(rows), **options)
    whole.train()
    newest = last_checkpoint(tmp_path)
    resumed = make(tmp_path, rows, plan=cpd_plan(rows), **options)
    done = resumed.train(resume_from_checkpoint=newest if asked == "path" else asked)
    assert done.global_step == resumed.state.global_step == 4
    assert torch.equal(weights(whole), weights(resumed))
    assert last_checkpoint(tmp_path) == newest
    # With a later limit it goes on from there, as an unbroken run does.
    options["max_steps"] = 6
    longer = make(tmp_path, rows, plan=cpd_plan(rows), **options)
    longer.train(resume_from_checkpoint=str(newest))
    unbroken = make(tmp_path / "unbroken", rows, plan=cpd_plan(rows), **options)
    unbroken.train()
    assert torch.equal(weights(longer), weights(unbroken))


@pytest.mark.parametrize("what", ["byte", "step", "marker", "renamed", "missing", "nothing"])
def test_a_checkpoint_that_is_not_as_it_was_written_is_refused(tmp_path, rows, what):
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    make(tmp_path, rows, plan=cpd_plan(rows), **options).train()
    newest = last_checkpoint(tmp_path)
    if what == "byte":
        content = bytearray((newest / "optimizer.pt").read_bytes())
        content[len(content) // 2] ^= 1
        (newest / "optimizer.pt").write_bytes(content)
    elif what == "step":
        state = newest / "trainer_state.json"
        state.write_text(state.read_text().replace('"global_step": 2', '"global_step": 1'))
    elif what == "marker":
        (newest / "complete.json").write_text("")
    elif what == "renamed":
        newest = newest.rename(tmp_path / "checkpoint-9")
    elif what == "missing":
        (newest / "scheduler.pt").unlink()
    else:
        newest = tmp_path / "checkpoint-7"
    trainer = make(tmp_path, rows, plan=cpd_plan(rows), **options)
    with pytest.raises(RunFolderError, match="cannot be continued from"):
        trainer.train(resume_from_checkpoint=str(newest))
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 2


@pytest.mark.parametrize("save_steps", [1, 3])
def test_log_records_do_not_depend_on_where_checkpoints_are(tmp_path, rows, save_steps):
    options = {"logging_steps": 2, "save_strategy": "steps", "keep_checkpoints": 99}
    whole = make(tmp_path / "whole", rows, plan=cpd_plan(rows), save_steps=50, **options)
    whole.train()
    cut = make(tmp_path / "cut", rows, plan=cpd_plan(rows), save_steps=save_steps, **options)
    cut.train()
    resumed = make(tmp_path / "cut", rows, plan=cpd_plan(rows), save_steps=save_steps, **options)
    resumed.train(resume_from_checkpoint=tmp_path / "cut/checkpoint-3")

    def records(trainer):
        timed = ("train_runtime", "train_samples_per_second", "train_steps_per_second")
        return [r for r in trainer.state.log_history if "loss" in r and not r.keys() & {*timed}]

    assert records(whole) == records(cut) == records(resumed)


def test_checkpoints_come_by_time_too(tmp_path, rows):
    options = {"save_strategy": "steps", "save_steps": 1000, "checkpoint_minutes": 1e-9}
    make(tmp_path, rows, plan=cpd_plan(rows), **options).train()
    assert (tmp_path / "checkpoint-1").is_dir() or len(checkpoints(tmp_path)) == 2
    make(
        tmp_path / "none", rows, plan=cpd_plan(rows), **{**options, "checkpoint_minutes": None}
    ).train()
    assert len(checkpoints(tmp_path / "none")) == 1


def test_only_whole_checkpoints_are_kept(tmp_path, rows):
    trainer = make(
        tmp_path, rows, plan=cpd_plan(rows), save_strategy="steps", save_steps=1, keep_checkpoints=2
    )
    trainer.train()
    found = checkpoints(tmp_path)
    assert len(found) == 2 and all(is_complete(path) for path in found)


def test_without_a_plan_it_is_a_plain_run(tmp_path, rows):
    trainer = make(tmp_path, rows, num_train_epochs=2, lr_scheduler_type="linear")
    trainer.train()
    log = history(tmp_path)
    assert len(log) == 2 * len(rows) // 6
    assert log[-1]["learning_rate"] < 0.2 * log[0]["learning_rate"]
    trainer = make(tmp_path / "b", rows.remove_columns("id"), max_steps=3)
    trainer.train()
    assert trainer.state.global_step == 3


def test_without_a_teacher_it_is_fine_tuning(tmp_path, rows):
    trainer = DistillTrainer(
        tiny_model(), config(tmp_path, ce_weight=1.0, max_steps=2), rows, callbacks=[]
    )
    trainer.train()
    record = trainer.state.log_history[0]
    assert "kd" not in record and record["loss"] == pytest.approx(record["ce"], rel=1e-6)


def test_a_missing_teacher_is_refused(tmp_path, rows):
    with pytest.raises(ConfigError, match="ce_weight to 1"):
        DistillTrainer(tiny_model(), config(tmp_path, max_steps=2), rows)


def test_rows_that_do_not_fit_are_refused(tmp_path, rows):
    with pytest.raises(DataError, match="no column 'labels'"):
        make(tmp_path, rows.remove_columns("labels"))
    plan = cpd_plan(random_rows(30))
    with pytest.raises(DataError, match="does not have, for example 'r024'"):
        make(tmp_path, rows, plan=plan).train()


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(tmp_path, rows):
    student = tiny_model(seed=1)
    plan = cpd_plan(rows)

    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, **keywords):
            if state.global_step == 2:
                with torch.no_grad():
                    student.lm_head.weight[0, 0] = float("nan")

    trainer = make(tmp_path, rows, plan=plan, student=student, callbacks=[Poison()])
    with pytest.raises(NonFiniteLossError, match="step 3 of"):
        trainer.train()
    record = json.loads((tmp_path / "non_finite_0.json").read_text())
    assert sorted(record["ids"]) == sorted(plan.ids[i] for i in plan.positions(2))


def test_evaluation_moves_nothing(tmp_path, rows):
    plan = cpd_plan(rows)
    results = []
    for steps in ((), (1, 2, 4)):
        folder = tmp_path / str(len(steps))
        trainer = make(folder, rows, plan=plan, callbacks=[ValidateAndLog(validate_after=steps)])
        trainer.eval_dataset = random_rows(5, seed=9)
        trainer.train()
        results.append(weights(trainer))
        evaluated = [row for row in trainer.state.log_history if "eval_loss" in row]
        assert len(evaluated) == len(steps)
    assert torch.equal(*results)


def test_evaluation_loss_is_the_token_mean(tmp_path, rows):
    trainer = make(tmp_path, rows, max_steps=1)
    held_out = random_rows(7, seed=3)
    total = count = 0
    trainer.model.eval()
    for row in held_out:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        tokens = sum(label != -100 for label in row["labels"])
        total += trainer.model(input_ids=ids, labels=labels).loss.item() * tokens
        count += tokens
    assert trainer.evaluate(held_out)["eval_loss"] == pytest.approx(total / count, rel=1e-5)


def test_lora_and_gradient_checkpointing(tmp_path, rows):
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=2, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM")
    torch.manual_seed(0)
    logs = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        student = get_peft_model(tiny_model(seed=1), lora)
        frozen = student.get_base_model().lm_head.weight.clone()
        folder = tmp_path / str(checkpointing)
        trainer = make(
            folder,
            rows,
            plan=cpd_plan(rows),
            student=student,
            gradient_checkpointing=checkpointing,
        )
        trainer.train()
        assert torch.equal(student.get_base_model().lm_head.weight, frozen)
        logs.append([row["loss"] for row in history(folder)])
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)
    assert logs[0][0] != logs[0][-1]


def test_bfloat16_follows_float32(tmp_path, rows):
    losses = []
    for bf16 in (False, True):
        folder = tmp_path / str(bf16)
        make(folder, rows, plan=cpd_plan(rows), student=tiny_model(seed=1), bf16=bf16).train()
        losses.append([row["loss"] for row in history(folder)])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]
