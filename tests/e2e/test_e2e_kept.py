"""The user's file is read once: what later stages need of it is kept with the rows."""

import importlib
import json

import pytest
from killing import make_models

from tutelage import run
from tutelage.data import read
from tutelage.data.arithmetic import arithmetic_examples
from tutelage.difficulty import load_profile
from tutelage.files import read_json

STAGES = importlib.import_module("tutelage.pipeline.run")


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "sums.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for number, example in enumerate(arithmetic_examples("train", 30, seed=0)):
            row = {**example.fields, "completion": example.completion, "hard": number % 7 + 0.25}
            lines.write(json.dumps(row) + "\n")
    return file


def test_nothing_reads_the_file_after_the_data_are_made(tmp_path, source, monkeypatch):
    make_models(tmp_path)
    hard = [json.loads(line)["hard"] for line in source.read_text().splitlines()]
    readers, whole, make = dict(read._READERS), [], STAGES.prepare_data

    def reading(path, split, wanted):
        yield from readers[".jsonl"](path, split, wanted)
        whole.append(path)  # a look at the first rows ends before

    def making(session):
        make(session)
        source.unlink()

    monkeypatch.setitem(read._READERS, ".jsonl", reading)
    monkeypatch.setattr(STAGES, "prepare_data", making)
    recipe = {
        "extends": "clpd",
        "student": {"model": str(tmp_path / "student")},
        "teachers": [
            {"name": "weak", "model": "embedded:arithmetic-weak"},
            {"name": "strong", "model": "embedded:arithmetic-strong"},
        ],
        "data": {"train": str(source), "test_share": 0.1, "max_length": 128},
        "difficulty": {"kind": "column", "name": "hard"},
        "curriculum": {"total_steps": 2},
        "training": {"batch_size": 4, "micro_batch_size": 4},
        "supervision": {"prompt": "Work it out.\n{prompt}", "max_new_tokens": 8, "on_wrong": "keep",
                        "verifier": {"kind": "exact_match", "after": "#"}},
        "output": str(tmp_path / "runs"),
    }  # fmt: skip
    result = run(recipe)
    assert whole == [source]
    counts = read_json(result.folder / "arms/clpd/texts/summary.json")
    assert sum(one["asked"] for one in counts.values()) == 27
    scores = load_profile(result.folder / "difficulty/profile.parquet").scores
    assert len(scores) == 27 and set(scores) <= set(hard)
