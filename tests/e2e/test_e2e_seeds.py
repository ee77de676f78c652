"""Each seed has one job: a change of one leaves what the others decide as it is."""

import json

import pytest
from killing import make_models, small_recipe

from tutelage.data.arithmetic import arithmetic_examples
from tutelage.pipeline.context.changes import changes
from tutelage.pipeline.context.inputs import data_inputs, teacher_inputs
from tutelage.pipeline.run import open_session, run
from tutelage.recipe import load_recipe


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A finished run in which everything draws: splits, teacher, texts, sample, order."""
    folder = tmp_path_factory.mktemp("seeds")
    make_models(folder)
    rows = [
        {"id": e.id, **e.fields, "completion": e.completion}
        for e in arithmetic_examples("train", 80, levels=[1, 2])
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = small_recipe(folder)
    recipe["data"] = {
        "train": str(folder / "rows.jsonl"),
        "limit_train": 75,
        "test_share": 0.2,
        "max_length": 128,
        "template": "plain",
    }
    recipe["teacher"] |= {"finetune": {"epochs": 0.5}, "signal": "hidden"}
    recipe["difficulty"] = {"sample": 50}
    recipe["selection"] = {"metric": None}
    arm = {
        "training": recipe["training"],
        "curriculum": {"stages": 3},
        "difficulty": {"kind": "rouge_l", "max_new_tokens": 4},
    }
    text = {"max_new_tokens": 6, "sampling_temperature": 1.0}
    recipe["controls"] = {"texts": {"extends": "seqkd", "supervision": text, **arm}}
    run(recipe, run_dir=folder / "runs/first")
    return folder, recipe


def made(folder, *kinds):
    """What the cache has of some kinds, and when it was written."""
    cache = folder / "runs/cache"
    files = [path for kind in kinds for path in cache.glob(f"{kind}-*/**/*") if path.is_file()]
    assert files
    return {path: path.stat().st_mtime_ns for path in files}


def test_another_seed_of_the_student_trains_the_arms_alone(first, capsys):
    folder, recipe = first
    before = made(folder, "teacher", "texts", "store")
    run(recipe, ["seeds.student=1"], run_dir=folder / "runs/second", quiet=False)
    said = capsys.readouterr().err
    taken = {
        line.split(": reused, from ")[0] for line in said.splitlines() if "reused, from" in line
    }
    measured = {name for name in taken if name.startswith("difficulty")}
    assert len(measured) == 2 and "teacher: reused" in said
    assert taken - measured == {
        "data",
        "teacher: evaluation",
        "student before: evaluation",
        "texts: texts",
    }
    assert "Training cpd" in said and "Training texts" in said
    for work in ("tokenizing", "Fine-tuning", "Measuring", "Asking", "writes answers", "Storing"):
        assert work not in said
    assert made(folder, "teacher", "texts", "store") == before
    one, two = (folder / "runs" / name for name in ("first", "second"))
    for arm in ("cpd", "texts"):
        weights = f"arms/{arm}/student/model.safetensors"
        assert (one / weights).read_bytes() != (two / weights).read_bytes()
    seeds = {"data": 0, "teacher": 0, "student": 1}
    assert json.loads((two / "run.json").read_text())["seeds"] == seeds
    card = (two / "arms/cpd/student/README.md").read_text()
    assert "| seeds | data 0, teacher 0, student 1 |" in card
    assert "data 0, teacher 0, student 1" in (two / "report.html").read_text()
    assert "| seeds | 0 |" in (one / "arms/cpd/student/README.md").read_text()


def decided(first, change):
    """Whether the data of the first run stay with a change, and then the teacher too."""
    folder, recipe = first
    with open_session(load_recipe(recipe, [change]), folder / "runs/other", True) as session:
        if not session.ready("data", data_inputs(session)):
            return {"data": False}
        inputs = teacher_inputs(session, "teacher")
    known = (folder / "runs/cache").glob("teacher-*/manifest.json")
    return {
        "data": True,
        "teacher": any(json.loads(p.read_text())["inputs"] == inputs for p in known),
    }


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ("seeds.student=1", {"data": True, "teacher": True}),
        ("seeds.teacher=1", {"data": True, "teacher": False}),
        ("seeds.data=1", {"data": False}),
        ("seed=1", {"data": False}),
    ],
)
def test_what_each_seed_decides(first, change, stays):
    assert decided(first, change) == stays


def test_what_is_sampled_says_how_it_is_drawn(first):
    """So texts that an earlier version drew otherwise are not taken for those of this one."""
    folder, _ = first
    parts = [*(folder / "runs/cache").glob("texts-*/manifest.json")]
    (sampled,) = (json.loads(part.read_text())["inputs"] for part in parts)
    earlier = {name: value for name, value in sampled.items() if name != "draws"}
    assert changes(earlier, sampled) == ["how Tutelage draws answers changed"]
    greedy = (folder / "runs/first").rglob("manifest.json")
    assert all("draws" not in json.loads(part.read_text())["inputs"] for part in greedy)
