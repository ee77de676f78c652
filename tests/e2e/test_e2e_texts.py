"""Teachers that write answers inside a run: judged, resampled, kept for the next run."""

import json

import pytest
from killing import make_models

from tutelage import run
from tutelage.files import read_json
from tutelage.generation import Writer


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
    rows = [row for text in before for line in text.splitlines() for row in json.loads(line)]
    assert {row["sample"] for row in rows} == {0, 1, 2}

    def nobody(*arguments, **options):
        raise AssertionError("all texts are there")

    monkeypatch.setattr(Writer, "write", nobody)
    second = run("clpd", overrides, run_dir=tmp_path / "two")
    assert read_json(second.folder / "arms/clpd/texts/summary.json") == counts
    assert [store.read_bytes() for store in stores] == before
