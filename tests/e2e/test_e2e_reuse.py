"""What does not depend on a change is not made again, in one run folder and across them."""

import json
import shutil

import pytest
import yaml
from killing import make_models, small_recipe

from tutelage.errors import RunFolderError
from tutelage.pipeline.run import prepared, run


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


NO_RESULT = {
    "report_to": [],
    "log_every": 3,
    "checkpoint_every": 5,
    "keep_checkpoints": 1,
    "num_threads": 2,
    "gradient_checkpointing": True,
    "tile_tokens": 64,
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
    old = students(own)
    run(other, run_dir=own, replace=True)
    new = students(own)
    assert new["cpd"] != old["cpd"]
    run(recipe, run_dir=own, replace=True)  # and back again, with nothing trained
    assert students(own) == old


@pytest.mark.parametrize("objective", ["sft", "kl"])
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
