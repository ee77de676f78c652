"""Runs that measure difficulty again: equal updates, visits and validations for every arm."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from killing import make_models, small_recipe

from tutelage import run
from tutelage.curriculum import (
    CurriculumOptions,
    PlanSettings,
    compile_plan,
    describe_plan,
    load_plan,
    save_plan,
)
from tutelage.files import read_json, read_jsonl
from tutelage.pipeline import show_plan
from tutelage.pipeline.run import prepared
from tutelage.pipeline.stages.cost import cost_of
from tutelage.pipeline.stages.train import validation_steps
from tutelage.recipe import Recipe
from tutelage.report import load_run
from tutelage.types import DifficultyProfile

QUICK = {
    "data": {"kind": "arithmetic", "train": 37, "validation": 2, "test": 2, "max_length": 128},
    "evaluation": {
        "metrics": {"exact_match": {"after": "#"}},
        "max_new_tokens": 4,
        "agreement": False,
        "teacher": False,
        "student_before": False,
    },
}


def test_every_arm_makes_the_same_updates_and_validations(tmp_path):
    """Arms with other stages, and arms that plan anew; 37 examples never fill their batches."""
    make_models(tmp_path)
    recipe = small_recipe(tmp_path, log_every=1, checkpoint_every=100, micro_batch_size=8) | QUICK
    training = recipe["training"]
    recipe |= {
        "difficulty": {"refresh": 2},
        "curriculum": {"kind": "shrinking", "stages": 3, "passes": 1},
        "selection": {"metric": "exact_match", "every": "stage"},
        "controls": {
            "sft": {"extends": "sft", "curriculum": {"stages": 7}},
            "dynamic": {
                "extends": "cpd_semi_dynamic",
                "difficulty": {"refresh": 3},
                "curriculum": {"stages": 5},
                "training": training,
            },
        },
    }
    folder = tmp_path / "run"
    run(recipe, run_dir=folder)
    planned = load_plan(folder / "arms/cpd/plan")
    ends = np.cumsum([stage.steps for stage in planned.stages]).tolist()
    for arm in ("cpd", "sft", "dynamic"):
        place = folder / "arms" / arm
        rows = read_jsonl(place / "metrics.jsonl")
        assert [row["step"] for row in rows] == list(range(1, planned.total_steps + 1))
        assert [row["step"] for row in read_jsonl(place / "validation.jsonl")] == ends
    # The plan that was carried out has the visits of the one that was shown.
    last = load_plan(folder / "arms/cpd/replanned/after_stage_2")
    assert (last.offsets == planned.offsets).all() and len(last.visits) == len(planned.visits)
    assert sorted(last.visits.tolist()) != sorted(planned.visits.tolist())
    # Report and cost are those of the plan that was carried out.
    shown = load_run(folder)
    names = {"cpd": "replanned/after_stage_2", "sft": "plan", "dynamic": "replanned/after_stage_3"}
    for arm in shown.arms:
        assert arm.plan == read_json(folder / "arms" / arm.name / names[arm.name] / "plan.json")
    with prepared(recipe, run_dir=folder) as session:
        from tutelage.pipeline.stages.data import rows_of

        train = rows_of(session, "train")
        tokens = dict(zip(train["id"], map(len, train["input_ids"]), strict=True))
        assert cost_of(session, "cpd").tokens == sum(tokens[last.ids[i]] for i in last.visits)
    assert "measured again after every 2 stages" in json.dumps(shown.arms[0].plan["notes"])


def test_a_run_that_learns_answers_can_measure_again(tmp_path):
    """Only pairs that a teacher wrote are planned, whatever the new order asks for."""
    make_models(tmp_path)
    ladder = [{"name": n, "model": f"embedded:arithmetic-{n}"} for n in ("weak", "strong")]
    recipe = QUICK | {
        "extends": "clpd",
        "name": "ladder",
        "student": {"model": str(tmp_path / "student")},
        "teachers": ladder,
        "data": {**QUICK["data"], "train": 16, "validation": 0},
        "difficulty": {"refresh": 1},
        "curriculum": {"stages": 2, "passes": 1},
        "training": {"batch_size": 5, "micro_batch_size": 5, "learning_rate": 0.5, "log_every": 1},
        "supervision": {"prompt": "plain", "max_new_tokens": 64},
        "output": str(tmp_path / "runs"),
    }
    arm = run(recipe, run_dir=tmp_path / "run").folder / "arms/clpd"
    first, last = load_plan(arm / "plan"), load_plan(arm / "replanned/after_stage_1")
    assert last.total_steps == first.total_steps == len(read_jsonl(arm / "metrics.jsonl"))
    written = np.load(arm / "plan/available.npy")
    assert written[last.visit_teacher, last.visits].all()


@pytest.mark.parametrize(
    ("every", "max_steps", "expected"),
    [
        ("stage", None, [3, 6, 9]),
        ("stage", 4, [3, 4]),
        ("stage", 6, [3, 6]),
        (4, None, [4, 8, 9]),
        (4, 5, [4, 5]),
    ],
)
def test_validation_ends_where_training_does(tmp_path, every, max_steps, expected):
    profile = DifficultyProfile(tuple("abcd"), np.arange(1.0, 5.0))
    plan = compile_plan(
        profile, PlanSettings(CurriculumOptions("random", 3, total_steps=9), batch_size=2)
    )
    (tmp_path / "arms/main/plan").mkdir(parents=True)
    save_plan(tmp_path / "arms/main/plan", plan, describe_plan(plan, profile, "mine"))
    recipe = Recipe(
        selection={"metric": "rouge_l", "every": every}, training={"max_steps": max_steps}
    )
    session = SimpleNamespace(recipe=recipe, main_arm="main", part=tmp_path.joinpath)
    assert validation_steps(session) == expected


def test_a_plan_doubts_models_that_know_nothing(tmp_path):
    """Two random models: each is worse than a guess, and one of them is the worse teacher."""
    make_models(tmp_path)
    worse = []
    for teacher, student in (("teacher", "calm"), ("calm", "teacher")):
        recipe = (
            small_recipe(tmp_path)
            | QUICK
            | {
                "student": {"model": str(tmp_path / student)},
                "teacher": {"model": str(tmp_path / teacher)},
                "difficulty": {"kind": "dds"},
                "controls": {},
            }
        )
        (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
        shown = show_plan(
            str(tmp_path / "recipe.yaml"), run_dir=tmp_path / f"run-{teacher}"
        ).description
        texts = " ".join(shown["warnings"])
        assert "uniform guess among its" in texts and "--set student.finetune.epochs=1" in texts
        worse.append("the teacher is worse" in texts)
    assert sorted(worse) == [False, True]
