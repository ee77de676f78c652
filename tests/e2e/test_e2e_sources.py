"""A run whose training data are several sources with weights."""

import json

import pytest
from killing import make_models

from tutelage.data.arithmetic import arithmetic_examples
from tutelage.files import read_json
from tutelage.pipeline import show_plan
from tutelage.pipeline.context.identity import data_identity
from tutelage.pipeline.context.inputs import data_inputs, start_inputs
from tutelage.pipeline.run import open_session, run
from tutelage.pipeline.stages.student import healing_rows
from tutelage.recipe import load_recipe


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Two sources of 24 rows, of which the second is to be a third of the data."""
    monkeypatch.chdir(tmp_path)
    make_models(tmp_path)
    examples = arithmetic_examples("train", 58, seed=0)
    for name, part in (("a", examples[:24]), ("b", examples[24:48]), ("test", examples[48:])):
        rows = [json.dumps({**e.fields, "completion": e.completion}) + "\n" for e in part]
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    (tmp_path / "mixed.yaml").write_text(
        "extends: sft\nstudent: {model: student}\n"
        "data:\n  max_length: 128\n  test: test.jsonl\n  train:\n"
        "    - {path: a.jsonl, weight: 2, group: A}\n    - {path: b.jsonl, weight: 1, group: B}\n"
        "curriculum: {stages: 1}\n"
        "training: {batch_size: 12, micro_batch_size: 12, num_threads: 1}\n"
        "evaluation: {max_new_tokens: 4, teacher: false, agreement: false}\n"
    )
    return tmp_path / "mixed.yaml"


def test_proportions_go_from_plan_to_card(recipe, tmp_path, capsys):
    shown = show_plan(str(recipe), run_dir=tmp_path / "run")
    lines = [line for line in shown.lines if line.startswith("train: ")]
    a, b = str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")
    assert lines == [f"train: 24 of 24 examples of {a}, weight 2",
                     f"train: 12 of 24 examples of {b}, weight 1"]  # fmt: skip
    summary = read_json(tmp_path / "run/data/summary.json")
    assert (
        summary["train"]["sources"]
        == shown.description["sources"]["train"]
        == [
            {"source": a, "weight": 2.0, "had": 24, "given": 24, "kept": 24},
            {"source": b, "weight": 1.0, "had": 24, "given": 12, "kept": 12},
        ]
    )
    assert summary["train"]["groups"] == {"A": 24, "B": 12} and "sources" not in summary["test"]
    run(str(recipe), run_dir=tmp_path / "run")
    card = (tmp_path / "run/arms/sft/student/README.md").read_text()
    assert f"| train | {a} | 24 |" in card and f"| train | {b} | 12 |" in card
    assert f"from {b}" in (tmp_path / "run/report.html").read_text()


def test_what_the_rows_are_made_from(recipe, tmp_path):
    def inputs(*changes):
        loaded = load_recipe(recipe, changes)
        with open_session(loaded, tmp_path / "run", True) as session:
            return data_inputs(session)

    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    mixed, plain = inputs(), inputs(f"data.train={a}")
    assert isinstance(plain["sources"]["train"], dict) and "seed" not in plain
    assert inputs(f"data.train=[{a}]") == plain
    both = inputs(f"data.train=[{a}, {b}]")
    assert [one["sha256"] for one in both["sources"]["train"]] == [
        one["sha256"] for one in mixed["sources"]["train"]
    ]
    assert "seed" not in both and mixed["seed"] == inputs("seeds.student=7")["seed"]
    assert inputs("seeds.data=7")["seed"] != mixed["seed"]
    assert inputs(f"data.train=[{b}, {a}]") != both


def test_a_student_is_healed_on_several_sources(recipe, tmp_path):
    def healed(*changes, rows=False):
        loaded = load_recipe(recipe, [f"student.finetune.{change}" for change in changes])
        with open_session(loaded, tmp_path / "run", True) as session:
            own = loaded.recipe.student.finetune.sources
            return healing_rows(session, own) if rows else start_inputs(session)

    weighted = "data=[{path: a.jsonl, weight: 1}, {path: test.jsonl, weight: 1}]"
    assert len(healed(weighted, rows=True)) == 20
    assert len(healed("data=[a.jsonl, {path: b.jsonl, first: 6}]", rows=True)) == 30
    alone = healed("data=a.jsonl")
    assert alone["sources"] == data_identity(str(tmp_path / "a.jsonl")) and "draws" not in alone
    assert healed("data=[a.jsonl, b.jsonl]")["sources"] != alone["sources"]
    assert healed(weighted)["draws"] == 0
