"""An engine and a suite from outside: each one class or function here, and one row of a table."""

import dataclasses
import json

import pytest
from killing import make_models

from tutelage import run
from tutelage.components import Component
from tutelage.errors import ConfigError, DataError
from tutelage.evaluation import SUITES, ByVerifier
from tutelage.files import read_json, read_jsonl
from tutelage.generation import ENGINES, Answer
from tutelage.recipe import load_recipe
from tutelage.recipe.effects import effective


class Parrot:
    """Says the same to every prompt, and needs no model for it."""

    chats = False

    def __init__(self, says):
        self.says = says

    def answer(self, prompts, settings, *, seed=0, progress=None, on_answer=None):
        if progress is not None:
            progress(len(prompts), len(prompts))
        seeds = [seed] * len(prompts) if isinstance(seed, int) else seed
        answers = [Answer(self.says, len(self.says), "stop", seed=own) for own in seeds]
        for position, answer in enumerate(answers if on_answer else []):
            on_answer(position, answer)
        return answers


def parrot(asked, *, says: str = "1#1"):
    """An engine that asks nobody."""
    return Parrot(says)


def lengths(asked):
    """A suite: how long the first two answers are."""
    metrics = {"length": ByVerifier(lambda answer, references: len(answer) / 10)}
    return dataclasses.replace(asked, limit=2, metrics=metrics)


@pytest.fixture
def overrides(tmp_path, monkeypatch):
    monkeypatch.setitem(ENGINES, "parrot", Component(parrot, "says the same to everybody"))
    monkeypatch.setitem(SUITES, "lengths", Component(lengths, "how long answers are"))
    make_models(tmp_path)
    changes = {
        "student.model": str(tmp_path / "student"),
        "teacher.model": "embedded:arithmetic-weak",
        "data.kind": "arithmetic",
        "data.train": 8,
        "data.validation": 4,
        "data.test": 4,
        "data.max_length": 128,
        "curriculum.stages": 1,
        "curriculum.total_steps": 2,
        "training.batch_size": 4,
        "training.micro_batch_size": 4,
        "engine": json.dumps({"kind": "parrot", "says": "7#7"}),
        "evaluation.suites": "[test, lengths]",
        "evaluation.metrics": "[exact_match]",
        "evaluation.agreement": "false",
        "output": str(tmp_path / "runs"),
    }
    return [f"{path}={value}" for path, value in changes.items()]


def test_an_engine_from_outside_answers_and_a_suite_from_outside_asks(tmp_path, overrides):
    folder = run("seqkd", overrides, run_dir=tmp_path / "run").folder
    (store,) = (tmp_path / "runs/cache").glob("texts-*/texts.jsonl")
    written = [row for line in store.open() for row in json.loads(line)["texts"]]
    assert len(written) == 8 and {row["text"] for row in written} == {"7#7"}
    for model in ("arms/seqkd", "references/teacher", "references/student_before"):
        answers = read_jsonl(folder / model / "evaluation" / "answers.jsonl")
        assert len(answers) == 4 and {row["answer"] for row in answers} == {"7#7"}
        scores = read_json(folder / model / "evaluation-lengths" / "scores.json")
        assert scores["num_examples"] == 2
        assert scores["scores"]["length"]["mean"] == pytest.approx(0.3)
    assert "lengths: length (%)" in (folder / "report.html").read_text()


def test_what_is_not_in_a_table_is_refused_with_its_place(overrides):
    with pytest.raises(ConfigError, match=r"engine.*Did you mean 'parrot'"):
        load_recipe("seqkd", [*overrides, "engine.kind=parot"])
    with pytest.raises(ConfigError, match=r"engine.*no option 'said'"):
        load_recipe("seqkd", [*overrides, "engine={kind: parrot, said: x}"])
    with pytest.raises(ConfigError, match=r"suites.*Did you mean 'lengths'"):
        load_recipe("seqkd", [*overrides, "evaluation.suites=[length]"])
    with pytest.raises(ConfigError, match="a suite is there twice"):
        load_recipe("seqkd", [*overrides, "evaluation.suites=[test, test]"])


def test_another_engine_makes_anew_what_it_answers_and_no_more(overrides):
    plain = effective(load_recipe("seqkd", [*overrides, "engine.kind=local"]).recipe)
    other = effective(load_recipe("seqkd", overrides).recipe)
    changed = {name for name in plain if plain[name] != other[name]}
    assert changed == {"evaluation", "supervision"}


def test_any_suite_may_select_the_student(tmp_path, overrides):
    rows = [{"id": f"{n}", "prompt": f"{n}+{n}=", "completion": "7#7"} for n in range(1, 4)]
    path = tmp_path / "dev.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = {"kind": "file", "data": str(path), "metrics": [{"kind": "exact_match"}]}
    chosen = [
        f"selection.suite={json.dumps(suite)}",
        "selection.metric=exact_match",
        "selection.every=1",
        "data.validation=0",
    ]
    folder = run("seqkd", [*overrides, *chosen], run_dir=tmp_path / "chosen").folder
    found = read_jsonl(folder / "arms/seqkd/validation.jsonl")
    assert [row["step"] for row in found] == [1, 2] and "exact_match" in found[0]
    assert read_json(folder / "arms/seqkd/student/selected.json")["step"] in (1, 2)
    with pytest.raises(ConfigError, match=r"selection\.metric.*'rouge_l'.*Known: exact_match"):
        run("seqkd", [*overrides, *chosen, "selection.metric=rouge_l"], run_dir=tmp_path / "x")
    with pytest.raises(DataError, match="the suite 'file' has nothing to ask"):
        run("seqkd", [*overrides, "evaluation.suites=[{kind: file, data: no.jsonl}]"])
