"""What does not depend on a change is not made again, in one run folder and across them."""

import json
import shutil

import pytest
import yaml
from killing import make_models, small_recipe

from tutelage.errors import RunFolderError
from tutelage.pipeline.run import open_session, prepared, run
from tutelage.pipeline.stages.forecast import forecast
from tutelage.recipe import Recipe, load_recipe


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A finished run ``runs/first`` of a small recipe, with its cache."""
    folder = tmp_path_factory.mktemp("reuse")
    make_models(folder)
    recipe = small_recipe(folder)
    recipe["student"]["model"] = str(folder / "calm")
    run(recipe, run_dir=folder / "runs" / "first")
    return folder, recipe


def changed(recipe, **sections):
    """The recipe with other values in some sections."""
    merged = json.loads(json.dumps(recipe))
    for section, values in sections.items():
        merged[section] = {**merged.get(section, {}), **values}
    return merged


def made(folder):
    """When each part of a run was written, by name."""
    return {
        str(path.parent.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("manifest.json")
    }


def students(folder):
    return {
        path.parts[-3]: path.read_bytes()
        for path in folder.glob("arms/*/student/model.safetensors")
    }


def test_a_new_folder_takes_what_is_there(home, capsys, tmp_path):
    folder, recipe = home
    other = changed(recipe, training={"weight_decay": 0.5}, controls={"rkl": {"extends": "rkl"}})
    other["controls"]["sft"]["training"] = {"weight_decay": 0.01}
    other["controls"]["rkl"]["curriculum"] = {"stages": 3}
    run(other, run_dir=folder / "runs" / "second", quiet=False)
    said = capsys.readouterr().err
    first = folder / "runs" / "first"
    taken = ("data", "difficulty", "teacher: evaluation", "student before: evaluation")
    for part in (*taken, "sft: student"):
        assert f"{part}: reused, from {first}" in said
    why = f"training.weight_decay is 0.5 (was 0.01) in {first}"
    assert f"cpd: student: made anew, because {why}" in said
    assert "Training cpd" in said and "Training rkl" in said
    for work in ("Training sft", "Measuring", "tokenizing", "Evaluating the", "Evaluating sft"):
        assert work not in said
    second = folder / "runs" / "second"
    assert students(second)["sft"] == students(first)["sft"]
    log = "arms/sft/metrics.jsonl"
    assert (second / log).read_bytes() == (first / log).read_bytes()
    # What was taken has been paid for: the report of the second run charges it too.
    charged = json.loads((second / "run.json").read_text())["seconds"]
    assert charged["training sft"] > 0 and charged["difficulty"] > 0


def test_a_plan_that_is_described_otherwise_says_what_is_new(home, capsys):
    folder, recipe = home
    own = folder / "runs" / "renamed"
    shutil.copytree(folder / "runs" / "first", own)
    refreshed = {**changed(recipe, difficulty={"refresh": 1}), "name": "other"}
    for other, why in (
        ({**recipe, "name": "new"}, "name is new (was small)"),
        (refreshed, "difficulty.refresh is 1 (was null), name is other (was new)"),
    ):
        with prepared(other, run_dir=own, quiet=False, replace=True):
            said = capsys.readouterr().err.splitlines()
        for arm in ("cpd", "sft"):
            assert f"{arm}: plan: made anew, because {why}" in said


NO_RESULT = {
    "report_to": [],
    "log_every": 3,
    "checkpoint_every": 5,
    "keep_checkpoints": 1,
    "num_threads": 2,
    "gradient_checkpointing": True,
    "tile_tokens": 64,
    "shard": "both",
}


def test_what_changes_no_result_remakes_nothing(home):
    folder, recipe = home
    first = folder / "runs" / "first"
    before = made(first)
    run(changed(recipe, training=NO_RESULT), run_dir=first)
    assert made(first) == before


def test_one_more_control_is_trained_alone(home, tmp_path):
    folder, recipe = home
    own = folder / "runs" / "own"
    shutil.copytree(folder / "runs" / "first", own)
    before, weights = made(own), students(own)
    more = changed(recipe, controls={"kld": {"extends": "kld", "curriculum": {"stages": 3}}})
    run(more, run_dir=own)
    after = made(own)
    new = {name for name in after if before.get(name) != after[name]}
    assert {"arms/kld/plan", "arms/kld/student", "arms/kld/evaluation"} <= new
    assert all(name.startswith("arms/kld/") or name == "signal" for name in new)
    assert students(own) == {**weights, "kld": students(own)["kld"]}
    assert json.loads((own / "run.json").read_text())["arms"] == ["cpd", "sft", "kld"]


def test_a_finished_student_of_another_recipe_is_not_replaced(home):
    folder, recipe = home
    own = folder / "runs" / "kept"
    shutil.copytree(folder / "runs" / "first", own)
    before, written = made(own), (own / "recipe.yaml").read_bytes()
    other = changed(recipe, difficulty={"kind": "response_length"})
    with pytest.raises(RunFolderError, match=r"replaced: cpd, sft\. .*--replace"):
        run(other, run_dir=own)
    assert made(own) == before and (own / "recipe.yaml").read_bytes() == written


@pytest.mark.slow
def test_students_are_replaced_where_that_is_said(home):
    folder, recipe = home
    own = folder / "runs" / "replaced"
    shutil.copytree(folder / "runs" / "first", own)
    other = changed(recipe, difficulty={"kind": "response_length"})
    old = students(own)
    run(other, run_dir=own, replace=True)
    new = students(own)
    assert new["cpd"] != old["cpd"]
    run(recipe, run_dir=own, replace=True)  # and back again, with nothing trained
    assert students(own) == old


@pytest.mark.parametrize("objective", ["sft", pytest.param("kl", marks=pytest.mark.slow)])
def test_a_cut_student_is_healed_once_for_all_arms(home, objective):
    from tutelage.pipeline import show_plan

    folder, recipe = home
    cut = {**recipe, "student": {"init_from": "TEACHER", "layers": 1}}
    changes = ["student.finetune.epochs=1", f"student.finetune.objective={objective}"]
    path = folder / f"heal-{objective}.yaml"
    path.write_text(yaml.safe_dump(cut))
    before = folder / "runs" / f"cut-{objective}"
    after = folder / "runs" / f"healed-{objective}"
    with prepared(str(path), run_dir=before) as session:
        raw = json.loads((session.part("difficulty") / "summary.json").read_text())["mean"]
    faster = "student.finetune.learning_rate=0.01"
    shown = show_plan(str(path), [*changes, faster], run_dir=after)
    assert any("3 updates on 40 examples" in line for line in shown.lines)
    healed = json.loads((after / "difficulty" / "summary.json").read_text())["mean"]
    # The teacher of these tests knows nothing; the answers can be learned.
    assert healed < raw if objective == "sft" else healed != raw
    assert "student" in json.loads((after / "seconds.json").read_text())["seconds"]
    assert not list(after.glob("student_start-training*"))


@pytest.fixture(scope="module")
def finished(home, tmp_path_factory):
    """The finished run with a cache of its own, in which nothing else is made."""
    folder, recipe = home
    own = tmp_path_factory.mktemp("finished")
    shutil.copytree(folder / "runs" / "first", own / "runs" / "first")
    return own, {**recipe, "output": str(own / "runs")}


def remade(folder, recipe, changes):
    """The first parts that changes of a finished recipe remake; what hangs on them follows."""
    found = set()
    with open_session(load_recipe(recipe, changes), folder / "runs" / "first", True) as session:
        there = session.ready

        def ready(name, inputs):
            if not there(name, inputs):
                found.add(name)
            return name not in found

        session.ready = ready
        forecast(session, replace=True)
    return found


DATA, PROFILE = {"data"}, {"difficulty"}
CPD, BOTH = {"arms/cpd/student"}, {"arms/cpd/student", "arms/sft/student"}
PLAN = {"arms/cpd/plan"}  # that of a control is open until it is there
BEFORE = {"references/student_before/evaluation"}
TEACHER = {"references/teacher/evaluation"}
TESTS = (
    BEFORE
    | TEACHER
    | {f"arms/{arm}/{part}" for arm in ("cpd", "sft") for part in ("evaluation", "evaluation_last")}
)
REMAKES = {
    "title=x": set(), "description=x": set(), "paper=x": set(), "differs_from_paper=x": set(),
    "seed=7": PLAN, "seeds.student=7": PLAN, "seeds.teacher=7": set(), "seeds.data=7": set(),
    "student.dtype=bfloat16": PROFILE | BEFORE,
    "student.finetune.epochs=1": {"student_start"},
    "teacher.dtype=bfloat16": CPD | TESTS,
    "teacher.signal=live": set(), "teacher.signal=topk && teacher.top_k=4": CPD | (TESTS - TEACHER),
     "teacher.top_k=3": set(),
    "teacher.store=here": set(), "teacher.store=[here,there]": set(),
    "on_policy.fraction=0.5": PLAN, "on_policy.max_new_tokens=3": set(),
    "on_policy.top_p=0.5": set(), "on_policy.sampling_temperature=2": set(),
    "on_policy.horizon=3": set(), "on_policy.prefix=0.5": set(), "on_policy.reuse=2": set(),
    "on_policy.max_age=9": set(), "on_policy.store_gb=1": set(),
    "on_policy.adaptive={kind: distillm}": set(),
    "on_policy.importance=2 && on_policy.reuse=2": set(),
    "on_policy.alarms.repetition=0.9 && on_policy.alarms.ended=null": set(),
    "on_policy.alarms.length_ratio=2 && on_policy.alarms.entropy=1": set(),
    "on_policy.alarms.agreement=0.1": set(),
    "on_policy.teacher_top_k=5": set(),
    "data.train=41": DATA, "data.validation=7": DATA, "data.test=11": DATA,
    "data.levels=[1,2]": DATA,
    "data.label_noise=0.1": DATA, "data.data_seed=3": DATA, "data.max_length=64": DATA,
    "difficulty.kind=response_length": PROFILE, "difficulty.sample=20": PROFILE,
    "difficulty.batch_tokens=99": set(), "difficulty.refresh=1": PLAN,
    "curriculum.kind=baby_steps": PLAN, "curriculum.stages=4": PLAN, "curriculum.passes=3": PLAN,
    "curriculum.weights={kind: middle}": PLAN,
    "curriculum.order=hard_first": PLAN, "curriculum.remainder=drop": PLAN,
    "loss.divergence.kind=reverse_kl": CPD, "loss.tau2_scaling=false": CPD, "loss.top_k=4": CPD,
    "loss.divergence.kind=reverse_kl && loss.sampled=true": CPD,
    "loss.state_weight=1 && loss.student_share=0.2": PLAN,
    "loss.state_weight=1 && loss.state_floor=1 && loss.student_share=0.2": PLAN,
    "loss.ce_trust=agreed && loss.student_share=0.2": PLAN,
    "loss.second_divergence={kind: jsd} && loss.second_share=0.5": PLAN,
    "loss.tokens={kind: student_entropy} && loss.token_share=0.5": PLAN,
    "loss.adaptive={kind: taid}": PLAN, "loss.ce_weight=0.25": PLAN, "loss.student_share=0.2": PLAN,
    "training.learning_rate=0.02": BOTH, "training.weight_decay=0.5": BOTH,
    "training.adam_beta1=0.5": BOTH, "training.adam_beta2=0.5": BOTH,
    "training.max_grad_norm=0.5": BOTH, "training.micro_batch_size=4": BOTH,
    "training.micro_batch_tokens=64": BOTH, "training.padding_free=false": BOTH,
    "training.lora.rank=2": BOTH, "training.max_steps=3": BOTH,
    "training.average={kind: ema}": BOTH,
    "training.batch_size=4": PLAN, "training.lr_schedule=linear": PLAN,
    "training.warmup_ratio=0.5": PLAN, "training.min_lr_ratio=0.5": PLAN,
    "training.precision=bfloat16": PROFILE,
    "training.log_every=3": set(), "training.checkpoint_every=7": set(),
    "training.keep_checkpoints=1": set(), "training.report_to=[tensorboard]": set(),
    "training.num_threads=2": set(), "training.gradient_checkpointing=true": set(),
    "training.tile_tokens=64": set(), "training.shard=both": set(),
    "selection.metric=null": BOTH, "selection.every=5": BOTH, "selection.limit=3": BOTH,
    "selection.keep=last": BOTH,
    "evaluation.max_new_tokens=7": TESTS | BOTH, "evaluation.max_total_tokens=90": TESTS | BOTH,
    "evaluation.precision=bfloat16": TESTS | BOTH,
    "evaluation.metrics.exact_match.after=null": TESTS | BOTH,
    "evaluation.sampling_temperature=0.5": TESTS, "evaluation.seeds=[1, 2]": TESTS,
    "evaluation.limit=5": TESTS, "evaluation.top_p=0.5": set(), "evaluation.top_k=2": set(),
    "evaluation.stop_strings=[;]": TESTS | BOTH,
    "evaluation.batch_tokens=99": set(), "evaluation.teacher=false": set(),
    "evaluation.student_before=false": set(), "evaluation.checkpoints=selected": set(),
    "evaluation.agreement=false": TESTS - TEACHER,
    "arm=other": {"arms/other/plan"}, "name=other": PLAN,
}  # fmt: skip
"""What is set, and what has to be made anew first."""


@pytest.mark.parametrize("change", REMAKES)
def test_what_a_setting_remakes(finished, change):
    folder, recipe = finished
    expected = REMAKES[change]
    there = {str(path.parent.relative_to(folder / "runs" / "first"))
             for path in (folder / "runs" / "first").rglob("manifest.json")}  # fmt: skip
    found = remade(folder, recipe, change.split(" && "))
    assert {name for name in found if "evaluation" not in name} == {
        name for name in expected if "evaluation" not in name
    }
    # Evaluations of students that are to be trained again are open.
    open_arms = {name.split("/")[1] for name in found if name.endswith(("/student", "/plan"))}
    tests = {n for n in expected & there if "evaluation" in n and n.split("/")[1] not in open_arms}
    assert {name for name in found if "evaluation" in name} == tests


ELSEWHERE = (
    # Other models, files or written texts than the small run has: which inputs hold them.
    "controls", "output", "teachers", "teacher_schedule",  # plan_inputs, training_inputs
    "teacher.model", "teacher.revision", "teacher.trust_remote_code", "teacher.layers",
    "teacher.finetune",  # teacher_inputs
    "student.model", "student.revision", "student.trust_remote_code", "student.init_from",
    "student.layers", "student.finetune",  # start_inputs
    "supervision",  # written_inputs, texts_inputs
    "data.train.", "data.validation.", "data.test.",  # sources_identity
    "data.kind", "data.lengths", "data.columns", "data.limit_", "data.long_prompts",
    "data.max_prompt_length", "data.system", "data.template", "data.test_share",
    "data.validation_share",  # data_inputs
    "curriculum.epochs", "curriculum.iteration_ratio", "curriculum.min_examples",
    "curriculum.restart", "curriculum.total_steps",  # plan_inputs: the whole section
    "loss.distill_temperature", "loss.target", "on_policy.top_k", "training.lora",
    # Other rows of their tables: test_e2e_outside.
    "engine", "evaluation.suites", "selection.suite",
)  # fmt: skip


def test_every_setting_is_said_to_remake_something_or_nothing():
    from tutelage.recipe.base import models_in

    def keys(model, path=""):
        for name, field in model.model_fields.items():
            # A component's only key of its own is its kind.
            found = models_in(field.annotation)
            below = [model for model in found if len(model.model_fields) > 1]
            for child in below:
                yield from keys(child, f"{path}{name}.")
            if not below:
                yield f"{path}{name}"

    said = {part.split("=")[0] for change in REMAKES for part in change.split(" && ")}
    unsaid = {
        key
        for key in keys(Recipe)
        if not any(one == key or one.startswith(f"{key}.") for one in said)
        and not key.startswith(ELSEWHERE)
    }
    assert not unsaid, f"add to REMAKES, and to effects.NO_RESULT where no result changes: {unsaid}"


def test_other_test_data_retrain_nothing(home):
    folder, recipe = home
    own = folder / "runs" / "tests"
    shutil.copytree(folder / "runs" / "first", own)
    before = made(own)
    with prepared(changed(recipe, data={"test": 12}), run_dir=own):
        pass
    after = made(own)
    assert {name for name in after if after[name] != before.get(name)} == {"data"}
