"""Teachers that write answers inside a run: judged, resampled, kept for the next run."""

import json

import pytest
from killing import make_models

from tutelage import run
from tutelage.data import teacher_prompts
from tutelage.errors import DataError
from tutelage.files import read_json
from tutelage.generation import Writer
from tutelage.pipeline.run import prepared
from tutelage.pipeline.stages import texts


@pytest.fixture
def overrides(tmp_path):
    make_models(tmp_path)
    changes = {
        "student.model": str(tmp_path / "student"),
        "teachers": json.dumps(
            [{"name": "weak", "model": "embedded:arithmetic-weak"},
             {"name": "strong", "model": "embedded:arithmetic-strong"}]
        ),
        "data.kind": "arithmetic",
        "data.train": 24,
        "data.validation": 4,
        "data.test": 4,
        "data.max_length": 128,
        "curriculum.total_steps": 2,
        "training.batch_size": 4,
        "training.micro_batch_size": 4,
        "supervision.prompt": "plain",
        "supervision.max_new_tokens": 64,
        "supervision.verifier": json.dumps({"kind": "exact_match", "after": "#"}),
        "supervision.on_wrong": "resample",
        "supervision.max_samples": 3,
        "supervision.resample_temperature": 1.0,
        "output": str(tmp_path / "runs"),
    }  # fmt: skip
    return [f"{path}={value}" for path, value in changes.items()]


def test_the_second_run_asks_nobody(tmp_path, overrides, monkeypatch):
    first = run("clpd", overrides, run_dir=tmp_path / "one")
    counts = read_json(first.folder / "arms/clpd/texts/summary.json")
    assert set(counts) == {"weak", "strong"}
    assert all(
        c["unjudged"] == 0 and c["right"] + c["wrong"] == c["asked"] for c in counts.values()
    )
    assert counts["strong"]["right"] > 0 and counts["weak"]["wrong"] > 0
    stores = sorted((tmp_path / "runs/cache").glob("texts-*/texts.jsonl"))
    before = [store.read_bytes() for store in stores]
    rows = [
        row for text in before for line in text.splitlines() for row in json.loads(line)["texts"]
    ]
    assert {row["sample"] for row in rows} == {0, 1, 2}

    def nobody(*arguments, **options):
        raise AssertionError("all texts are there")

    monkeypatch.setattr(Writer, "write", nobody)
    second = run("clpd", overrides, run_dir=tmp_path / "two")
    assert read_json(second.folder / "arms/clpd/texts/summary.json") == counts
    assert [store.read_bytes() for store in stores] == before


def test_an_arm_without_any_answer_is_named(tmp_path, overrides):
    # No sum is written out within four tokens.
    changes = ["supervision.on_wrong=drop", "supervision.max_new_tokens=4"]
    control = "controls={poor: {extends: clpd_standard_weak, supervision: {prompt: plain}}}"
    with pytest.raises(DataError, match=r"the arm 'clpd'.*as many pairs as the poorest"):
        run("clpd", [*overrides, *changes, control], run_dir=tmp_path / "none")


def test_cut_answers_and_long_prompts_are_counted(tmp_path, overrides, monkeypatch):
    def first_is_too_long(examples, *arguments, **options):
        return teacher_prompts(examples[1:], *arguments, **options)

    monkeypatch.setattr(texts, "teacher_prompts", first_is_too_long)
    changes = ["supervision.on_wrong=keep", "supervision.max_new_tokens=16"]
    with prepared("clpd", [*overrides, *changes], run_dir=tmp_path / "kept") as session:
        before = read_json(session.part("arms/clpd/texts") / "summary.json")
    assert all(c["prompt_too_long"] == 1 and c["truncated"] > 0 for c in before.values())
    assert all(c["kept"] == c["asked"] for c in before.values())
    stores = sorted((tmp_path / "runs/cache").glob("texts-*/texts.jsonl"))

    changes = [*overrides, *changes, "supervision.drop_truncated=true"]
    with prepared("clpd", changes, run_dir=tmp_path / "cut") as session:
        counts = read_json(session.part("arms/clpd/texts") / "summary.json")
    for name, count in counts.items():
        assert count["kept"] == before[name]["kept"] - before[name]["truncated"]
    assert sorted((tmp_path / "runs/cache").glob("texts-*/texts.jsonl")) == stores, "not asked anew"
