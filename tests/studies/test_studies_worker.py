"""Workers share a folder and nothing else: what one has, is doing, or could not do."""

import threading

import pytest

from tutelage.errors import ConfigError
from tutelage.studies import carry
from tutelage.studies.board import Board
from tutelage.studies.load import load_study
from tutelage.studies.results import Result, Scores, read_result, write_result
from tutelage.studies.run import parse_budget, state_of
from tutelage.studies.worker import work
from tutelage.types import Ledger

STUDY = {
    "name": "small",
    "base": "quickstart",
    "set": {"curriculum": {"stages": 5}},
    "arms": {"kld": {"extends": "kld"}, "sft": {"extends": "sft"}},
    "equal": {"updates": 10},
    "seeds": 3,
}


def made_up(task):
    scores = Scores(ids=["a", "b"], values=[0.0, 1.0], clusters=["", ""], groups=["", ""])
    return Result(
        key=task.key,
        role=task.role,
        cell=task.cell.name,
        arm=task.cell.arm,
        levels={},
        tuned={},
        seeds=task.seeds,
        steps=10,
        total_steps=10,
        scores={"test:exact_match": scores},
        ledger=Ledger(10, 100, {"training": 1e9}, {"training": 2.0}),
    )


@pytest.fixture
def study(tmp_path):
    return load_study({**STUDY, "output": str(tmp_path)})


def test_a_result_comes_back_as_it_was_written(tmp_path, study):
    task = state_of(study).due.ready[0]
    write_result(tmp_path / "one.json", made_up(task))
    assert read_result(tmp_path / "one.json") == made_up(task)
    (tmp_path / "one.json").write_text((tmp_path / "one.json").read_text().replace("1.0", "0.5"))
    assert read_result(tmp_path / "one.json") is None


def test_two_workers_do_each_run_once(study, monkeypatch):
    seen, together = [], threading.Barrier(2)

    def slowly(loaded, board, task):
        seen.append(task.result)
        if len(seen) <= 2:
            together.wait(20)  # both are at work at the same time
        return made_up(task)

    monkeypatch.setattr(carry, "carry_out", slowly)
    events = []
    crew = [
        threading.Thread(target=work, args=(study,), kwargs={"tell": events.append})
        for _ in range(2)
    ]
    for worker in crew:
        worker.start()
    for worker in crew:
        worker.join(60)
    assert len(seen) == len(set(seen)) == 6
    assert state_of(study).finished
    assert sum(event["event"] == "done" for event in events) == 6


def test_what_cannot_be_made_is_said_and_tried_again_when_asked(study, monkeypatch):
    def breaks(loaded, board, task):
        if task.cell.arm == "sft" and task.seeds["student"] == 1:
            raise ConfigError("no room.")
        return made_up(task)

    monkeypatch.setattr(carry, "carry_out", breaks)
    events = []
    work(study, tell=events.append)
    state = state_of(study)
    assert [one["why"] for one in state.failures.values()] == ["no room."]
    assert len(state.due.ready) == 1 and not state.finished
    monkeypatch.setattr(carry, "carry_out", lambda loaded, board, task: made_up(task))
    work(study, tell=events.append)
    assert not state_of(study).finished  # it is not tried again by itself
    Board(study.folder).forget_failures()
    work(study, tell=events.append)
    assert state_of(study).finished and not state_of(study).failures


def test_a_damaged_result_is_made_again(study, monkeypatch):
    monkeypatch.setattr(carry, "carry_out", lambda loaded, board, task: made_up(task))
    work(study, tell=lambda event: None)
    path = sorted((study.folder / "results").glob("*.json"))[0]
    path.write_text(path.read_text()[:-20])
    assert [task.result for task in state_of(study).due.ready] == [path.stem]
    work(study, tell=lambda event: None)
    assert state_of(study).finished


def test_nothing_is_begun_after_the_deadline(study, monkeypatch):
    monkeypatch.setattr(carry, "carry_out", lambda loaded, board, task: made_up(task))
    work(study, tell=lambda event: None, deadline=0.0)
    assert not state_of(study).results


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), ("45", 45)]
)
def test_budgets(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10 minutes", "-5", "h"])
def test_no_budgets(text):
    with pytest.raises(ConfigError, match="write a time"):
        parse_budget(text)
