"""Workers share a folder and nothing else: what one has, is doing, or could not do."""

import errno
import threading

import pytest
import yaml
from made_up import STUDY, made_up

from tutelage import locks
from tutelage.errors import ConfigError, RunFolderError
from tutelage.studies import carry, worker
from tutelage.studies.board import Board
from tutelage.studies.load import load_study
from tutelage.studies.results import read_result, write_result
from tutelage.studies.run import parse_budget, work_here
from tutelage.studies.watch import state_of
from tutelage.studies.worker import work


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
    for one in crew:
        one.start()
    for one in crew:
        one.join(60)
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


def test_a_worker_alone_says_its_lines_and_ends_when_nothing_is_due(tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "carry_out", lambda loaded, board, task: made_up(task))
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "output": str(tmp_path / "runs")}))
    lines = []
    state = work_here(path, say=lines.append)
    assert state.finished and len(lines) == 7
    assert lines[0].startswith("small: 6 runs to do, 0 are there; 1 worker of ")
    assert lines[1].startswith("1/6 kld, seed 0, test:exact_match 0.5, ")
    lines.clear()
    assert work_here(path, say=lines.append).finished and not lines


def test_who_waits_for_others_says_so_once(study, monkeypatch):
    monkeypatch.setattr(worker, "_PAUSE", 0.01)
    monkeypatch.setattr(carry, "carry_out", lambda loaded, board, task: made_up(task))
    board, events, waits = Board(study.folder), [], threading.Event()

    def tell(event):
        events.append(event)
        waits.set()

    (*others, last) = state_of(study).due.ready
    for task in others:
        board.write(task.result, made_up(task))
    with board.claim(last.key) as mine:
        assert mine
        waiting = threading.Thread(target=work, args=(study,), kwargs={"tell": tell})
        waiting.start()
        assert waits.wait(60)
        waiting.join(0.1)
        assert waiting.is_alive() and events == [{"event": "waiting"}]
    waiting.join(60)
    assert [event["event"] for event in events] == ["waiting", "start", "done"]


def test_a_file_system_without_locks_is_one_message(study, monkeypatch):
    def refuses(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuses)
    with pytest.raises(RunFolderError, match=r"has no locks \(No locks available\).*another disk"):
        work(study, tell=lambda event: None)
