"""Trainer features that single methods need: ladders, restarts, adaptive shares, own answers."""

import itertools
import json
import math

import datasets
import numpy as np
import pytest
import torch
from test_training_trainer import config, history, weights

from conftest_models import VOCAB, random_rows, tiny_model
from tutelage import DistillTrainer
from tutelage.curriculum import CurriculumOptions, LearningRate, PlanSettings, compile_plan
from tutelage.data.arithmetic import build_tokenizer
from tutelage.data.collate import collate
from tutelage.errors import ConfigError, DataError
from tutelage.generation import GenerationSettings
from tutelage.schedules import CONTROLLERS, ControllerState
from tutelage.teachers import TeacherLadder
from tutelage.training.callbacks import MetricsFile
from tutelage.training.checkpoints import last_checkpoint
from tutelage.training.own_answers import OwnAnswers
from tutelage.training.share import AdaptiveShare
from tutelage.types import DifficultyProfile


def plan_of(rows, curriculum=None, **options):
    ids = tuple(dict.fromkeys(rows["id"]))
    profile = DifficultyProfile(ids, np.linspace(0.5, 3.0, len(ids)))
    curriculum = curriculum or CurriculumOptions("random", 2, passes=2)
    return compile_plan(profile, PlanSettings(curriculum, batch_size=6, **options))


def make(folder, rows, plan, teacher=None, **options):
    own = options.pop("own_answers", None)
    return DistillTrainer(
        tiny_model(seed=1),
        config(folder, **options),
        rows,
        teacher=teacher or tiny_model(seed=2),
        plan=plan,
        own_answers=own,
        callbacks=[MetricsFile(folder / "metrics.jsonl")],
    )


# ---- several teachers ------------------------------------------------------------------------


class Recording(TeacherLadder):
    """A ladder that remembers which teachers it loaded."""

    def __init__(self, models, vocab=VOCAB, **options):
        from tutelage.teachers import LiveTeacher

        self.loads = []

        def loader(name):
            def load():
                self.loads.append(name)
                return LiveTeacher(models[name], vocab)

            return load

        super().__init__({name: loader(name) for name in models}, **options)


def test_each_stage_learns_from_its_own_teacher(tmp_path, rows):
    models = {"weak": tiny_model(seed=2), "strong": tiny_model(seed=3, hidden=24)}
    ladder = Recording(models)
    plan = plan_of(
        rows, CurriculumOptions("bands", 2), teachers=("weak", "strong"), teacher_schedule="ladder"
    )
    trainer = make(tmp_path, rows, plan, teacher=ladder, learning_rate=0.0)
    trainer.train()
    assert ladder.loads == ["weak", "strong"]
    log = history(tmp_path)
    assert [row["teacher"] for row in log] == [plan.stage_of(s).teacher for s in range(len(log))]
    # With a student that does not move, the loss of each step is that of the stage's teacher.
    for name in models:
        alone = make(tmp_path / name, rows, plan, teacher=models[name], learning_rate=0.0)
        alone.train()
        for row, other in zip(log, history(tmp_path / name), strict=True):
            assert (row["kd"] == pytest.approx(other["kd"], rel=1e-5)) == (row["teacher"] == name)


def test_a_ladder_keeps_one_teacher_and_a_mixture_keeps_all():
    models = {"weak": tiny_model(seed=2), "strong": tiny_model(seed=3)}
    one, every = Recording(models), Recording(models, keep_all=True)
    for ladder in (one, every):
        for name in ("weak", "strong", "weak"):
            assert ladder[name].model is models[name]
    assert one.loads == ["weak", "strong", "weak"] and every.loads == ["weak", "strong"]


@pytest.mark.parametrize("space", ["probability", "logit"])
def test_an_ensemble_speaks_at_the_temperature(space):
    from conftest_teachers import teacher_log_probs
    from tutelage.teachers import EnsembleTeacher, LiveTeacher

    models = [tiny_model(seed=2), tiny_model(seed=3, hidden=24)]
    signal = EnsembleTeacher([LiveTeacher(m, VOCAB) for m in models], [1.0, 3.0], space)
    rows = random_rows(3)
    batch = collate(list(rows), 0)
    inputs = (batch["input_ids"], batch["attention_mask"], batch["labels"])
    found = teacher_log_probs(signal, signal.encode(rows["id"], *inputs), 2.0)
    where = batch["labels"][:, 1:] != -100
    parts = []
    for model in models:
        with torch.no_grad():
            logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        parts.append(logits[:, :-1][where].double() / 2.0)
    if space == "probability":
        expected = (0.25 * parts[0].softmax(-1) + 0.75 * parts[1].softmax(-1)).log()
    else:
        expected = (0.25 * parts[0].log_softmax(-1) + 0.75 * parts[1].log_softmax(-1)).log_softmax(
            -1
        )
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_a_missing_teacher_is_named(tmp_path, rows):
    plan = plan_of(rows, teachers=("weak", "strong"))
    with pytest.raises(ConfigError, match="names the teacher 'strong'"):
        make(tmp_path, rows, plan, teacher={"weak": tiny_model(seed=2)})


def test_pairs_are_joined_by_example_and_writer(tmp_path, rows):
    by_weak = rows.add_column("teacher", ["weak"] * len(rows))
    by_strong = rows.map(lambda row: {"labels": [*row["labels"][:-1], 3]})
    by_strong = by_strong.add_column("teacher", ["strong"] * len(rows))
    pairs = datasets.concatenate_datasets([by_strong, by_weak])
    plan = plan_of(
        rows,
        CurriculumOptions("bands", 2),
        ce_weight=1.0,
        teachers=("weak", "strong"),
        teacher_schedule="ladder",
        supervision="text",
    )
    trainer = make(tmp_path, pairs, plan)
    labels = {(r["id"], r["teacher"]): r["labels"] for r in pairs}
    seen = 0
    for batch in trainer.get_train_dataloader():
        span = slice(plan.offsets[batch["step"]], plan.offsets[batch["step"] + 1])
        writer = {
            plan.ids[i]: plan.teachers[k]
            for i, k in zip(plan.visits[span], plan.visit_teacher[span], strict=True)
        }
        for example_id, row in zip(batch["ids"], batch["labels"], strict=True):
            expected = labels[example_id, writer[example_id]]
            assert row[: len(expected)].tolist() == expected
            seen += 1
    assert seen == len(plan.visits)
    with pytest.raises(DataError, match="does not have"):
        make(tmp_path, by_weak, plan).get_train_dataloader()


# ---- restarts ---------------------------------------------------------------------------------


def test_a_restart_forgets_the_optimizer(tmp_path, rows):
    options = CurriculumOptions("linear_growth", 2, passes=2, restart=True)
    plan = plan_of(rows, options, learning_rate=LearningRate("constant"))
    trainer = make(tmp_path, rows, plan)
    counts = []

    from transformers.trainer_callback import TrainerCallback

    class Look(TrainerCallback):
        def on_step_end(self, *arguments, **keywords):
            states = trainer.optimizer.state.values()
            counts.append({int(state["step"]) for state in states})

    trainer.add_callback(Look())
    trainer.train()
    first, second = (stage.steps for stage in plan.stages)
    expected = [*range(1, first + 1), *range(1, second + 1)]
    assert counts == [{n} for n in expected]


# ---- adaptive shares ----------------------------------------------------------------------------


def taid_by_hand(observed, floors, alpha, beta, start):
    """METHODS of the paper, step by step."""
    t, m, prev, values = start, 0.0, None, []
    for loss, floor in zip(observed, floors, strict=True):
        if prev is not None:
            relative = (prev - loss) / (prev + 1e-15)
            m = beta * m + (1 - beta) * relative
            t = min(1.0, max(floor, t + alpha / (1 + math.exp(-m)) * (1 - t)))
        else:
            t = max(floor, t)
        prev = loss
        values.append(t)
    return values


def test_the_controller_is_taids_rule():
    rng = np.random.default_rng(0)
    observed = (3 * np.exp(-np.arange(50) / 20) + 0.1 * rng.random(50)).tolist()
    floors = np.linspace(0.4, 0.6, 50).tolist()
    state, values = ControllerState(0.4), []
    for loss, floor in zip(observed, floors, strict=True):
        state = CONTROLLERS["taid"].function(state, loss, floor, alpha=0.05, beta=0.9)
        values.append(state.value)
        assert ControllerState(**json.loads(json.dumps(state.as_dict()))) == state
    assert values == pytest.approx(taid_by_hand(observed, floors, 0.05, 0.9, 0.4), rel=1e-12)
    assert all(a <= b for a, b in itertools.pairwise(values)) and values[-1] <= 1


def test_without_progress_the_controller_drifts():
    state = ControllerState(0.0)
    for _ in range(3):
        state = CONTROLLERS["adaptive"].function(state, 1.0, 0.0, alpha=0.1, beta=0.9)
    assert state.value == pytest.approx(1 - 0.95**2)


def test_taid_moves_the_teachers_share_and_cpd_the_students(rows):
    falling = plan_of(
        rows, student_share={"kind": "linear", "start": 0.6, "end": 0.0, "per": "step"}
    )
    taid = AdaptiveShare({"kind": "taid", "alpha": 0.5}, falling)
    rising = plan_of(
        rows, student_share={"kind": "linear", "start": 0.0, "end": 0.6, "per": "step"}
    )
    cpd = AdaptiveShare({"kind": "adaptive", "alpha": 0.5}, rising)
    for share, sign in ((taid, -1), (cpd, 1)):
        before = [share.student_share(step) for step in range(4)]
        for step in range(3):
            share.observe(1.0, step)
        assert sign * (share.student_share(3) - before[3]) > 0
    with pytest.raises(ConfigError, match="Did you mean 'taid'"):
        AdaptiveShare({"kind": "tiad"}, rising)


@pytest.mark.parametrize("observe", ["kd", "cross_entropy"])
def test_the_share_moves_once_a_step_and_survives_a_resume(tmp_path, rows, observe):
    plan = plan_of(rows, student_share={"kind": "linear", "start": 0.6, "end": 0.2, "per": "step"})
    options = {
        "share_controller": {"kind": "taid", "alpha": 0.2, "observe": observe},
        "target": "logit_mix",
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 3,
        "save_strategy": "steps",
        "save_steps": 3,
    }
    whole = make(tmp_path / "whole", rows, plan, **options)
    whole.train()
    log = history(tmp_path / "whole")
    shares = [row["student_share"] for row in log]
    assert shares[0] == pytest.approx(0.6)
    assert all(a >= b for a, b in itertools.pairwise(shares))
    assert any(s < p - 1e-3 for s, p in zip(shares, plan.student_share, strict=True))
    if observe == "kd":
        # What a step's loss moves is used at the next step, whose floor it may not fall below.
        floors = [*(1 - plan.student_share[1:]), 1 - plan.student_share[-1]]
        teacher = taid_by_hand([r["kd"] for r in log], floors, 0.2, 0.99, 0.4)
        assert [1 - s for s in shares[1:]] == pytest.approx(teacher[:-1], rel=1e-5)
    first = make(tmp_path / "cut", rows, plan, **{**options, "max_steps": 3})
    first.train()
    second = make(tmp_path / "cut", rows, plan, **options)
    second.train(resume_from_checkpoint=str(last_checkpoint(tmp_path / "cut")))
    assert torch.equal(weights(whole), weights(second))
    assert [row["student_share"] for row in history(tmp_path / "cut")] == shares


# ---- the student's own answers ------------------------------------------------------------------


def test_on_policy_steps_learn_from_what_the_student_writes(tmp_path):
    rows = random_rows(12)
    plan = plan_of(rows, on_policy=0.5)
    assert 0 < plan.on_policy.sum() < plan.total_steps
    own = OwnAnswers(
        build_tokenizer(), GenerationSettings(max_new_tokens=4, sampling_temperature=1.0)
    )
    logs = []
    for name in ("a", "b"):
        trainer = make(
            tmp_path / name,
            rows,
            plan,
            own_answers=own,
            gradient_accumulation_steps=2,
            per_device_train_batch_size=3,
        )
        trainer.train()
        logs.append(history(tmp_path / name))
    drop = ("seconds",)
    same = [[{k: v for k, v in r.items() if k not in drop} for r in log] for log in logs]
    assert same[0] == same[1]
    for row, on_policy in zip(logs[0], plan.on_policy, strict=True):
        if on_policy:
            assert row["response_tokens"] <= 4 * 6
            assert row["ce_weight"] == 0.0


def test_a_saved_student_stops_where_its_turns_end(tmp_path, rows):
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["4"]})
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}4{% endfor %}"
    trainer = DistillTrainer(
        tiny_model(seed=1),
        config(tmp_path),
        rows,
        processing_class=tokenizer,
        plan=plan_of(rows, ce_weight=1.0),
    )
    trainer.save_model(str(tmp_path / "student"))
    saved = json.loads((tmp_path / "student" / "generation_config.json").read_text())
    assert {7, tokenizer.eos_token_id} <= set(saved["eos_token_id"])


def test_on_policy_without_a_way_to_answer_is_refused(tmp_path, rows):
    with pytest.raises(ConfigError, match="own_answers"):
        make(tmp_path, rows, plan_of(rows, on_policy=1.0))


# ---- the k likeliest tokens ----------------------------------------------------------------------


def test_top_k_is_a_lower_bound_and_all_of_it_is_the_whole(tmp_path, rows):
    plan = plan_of(rows)
    losses = {}
    for k in (None, 3, VOCAB):
        make(tmp_path / str(k), rows, plan, top_k=k, learning_rate=0.0).train()
        losses[k] = [row["kd"] for row in history(tmp_path / str(k))]
    assert losses[VOCAB] == pytest.approx(losses[None])
    assert all(0 < few < whole for few, whole in zip(losses[3], losses[None], strict=True))
