"""What the page says of training, held against the data, the plan and the clock of a real run."""

import json
import os
import time
from types import SimpleNamespace

import datasets
import pytest

from tutelage.curriculum import load_plan
from tutelage.pipeline.context.clock import Clock
from tutelage.pipeline.stages.job import start_over_unless_same
from tutelage.report import load_run
from tutelage.report.page_tables import data_view, progress_view
from tutelage.report.run import learned


def tokens_of_the_plan(folder, arm):
    """Response tokens that the arm's steps hold, from the data and the plan alone."""
    rows = datasets.load_from_disk(str(folder / "data" / "train"))
    tokens = {
        example: sum(label >= 0 for label in labels)
        for example, labels in zip(rows["id"], rows["labels"], strict=True)
    }
    plan = load_plan(folder / "arms" / arm / "plan")
    return sum(tokens[plan.ids[visit]] for visit in plan.visits)


def test_tokens_and_speed_are_those_of_the_plan_and_the_log(run_folder):
    view = progress_view(load_run(run_folder))
    assert [row.name for row in view.rows] == ["cpd", "sft", "kld"]
    seconds = json.loads((run_folder / "seconds.json").read_text())["seconds"]
    for row in view.rows:
        shown = dict(zip(view.headers[1:], (cell.text for cell in row.cells), strict=True))
        tokens = tokens_of_the_plan(run_folder, row.name)
        log = (run_folder / f"arms/{row.name}/metrics.jsonl").read_text().splitlines()
        spent = json.loads(log[-1])["seconds"]
        assert shown["response tokens"] == f"{tokens:,}"
        assert shown["response tokens per second"] == f"{round(tokens / spent):,}"
        assert shown["last logged step"] == shown["planned"] == "12"
        # The log counts what the clock charges: all but the saving of the student.
        assert 0.3 * seconds[f"training {row.name}"] < spent <= seconds[f"training {row.name}"]


def test_a_mean_over_uneven_windows_is_weighed_by_their_steps():
    rows = [
        {"step": 10, "response_tokens": 100.0, "seconds": 4.0},
        {"step": 12, "response_tokens": 50.0, "seconds": 5.0},
    ]
    assert learned(rows) == (1100.0, 5.0)
    assert learned([]) == (0.0, 0.0)


def test_every_part_of_the_page_reads_what_the_run_wrote(run_folder):
    """Fields by which tables are filled exist in the files, with the meaning of the tables."""
    run = load_run(run_folder)
    table = {row.name: [cell.text for cell in row.cells] for row in data_view(run).rows}
    train = datasets.load_from_disk(str(run_folder / "data" / "train"))
    assert table["examples kept"][0] == "120"
    assert table["tokens in all"][0] == f"{sum(map(len, train['input_ids'])):,}"
    assert table["exact copies left out"] == ["0", "0", "0"]
    for row in run.main.plan["exposure"]:
        assert row["num_examples"] == 12
    assert run.info["started"] < run.info["finished"] or len(run.info["seconds"]) > 0


def test_a_run_that_does_nothing_keeps_its_times(new_run, tmp_path):
    folder = new_run(tmp_path / "run")
    before = Clock(folder)
    with before.charge("more"):
        pass
    after = Clock(folder)
    assert after.started == before.started and not after.worked
    assert after.seconds == before.seconds


@pytest.fixture
def now(monkeypatch):
    """A clock that the test moves: ``now(3)`` lets three seconds pass."""
    passed = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    monkeypatch.setattr(time, "time", lambda: 5000.0 + passed[0])

    def move(seconds):
        passed[0] += seconds

    return move


def test_a_stage_inside_another_is_charged_once(tmp_path, now):
    clock = Clock(tmp_path)
    with clock.charge("difficulty"):
        now(2)
        with clock.charge("teacher store"):
            now(5)
        now(1)
        assert clock.spent() == 3
    assert clock.seconds == {"difficulty": 3.0, "teacher store": 5.0}


def test_time_is_charged_when_a_stage_ends_badly(tmp_path, now):
    with pytest.raises(KeyboardInterrupt), Clock(tmp_path).charge("training cpd"):
        now(4)
        raise KeyboardInterrupt
    assert Clock(tmp_path).seconds == {"training cpd": 4.0}


def test_what_is_taken_is_charged_once_by_however_many_processes(tmp_path):
    for _ in range(2):  # the first was killed before it had taken the student
        Clock(tmp_path).add("training cpd", 5.0, "arms/cpd/student")
    assert Clock(tmp_path).seconds == {"training cpd": 5.0}
    Clock(tmp_path).add("teacher", 2.0, "teacher-strong")
    Clock(tmp_path).made("teacher-weak", "teacher", 3.0)  # here, so the stage has it already
    Clock(tmp_path).add("teacher", 3.0, "teacher-weak")
    Clock(tmp_path).forget("training cpd")
    Clock(tmp_path).add("training cpd", 5.0, "arms/cpd/student")
    assert Clock(tmp_path).seconds == {"teacher": 2.0, "training cpd": 5.0}


def test_what_a_training_took_counts_every_process_that_worked_on_it(tmp_path, now):
    def call(function, *arguments):
        return function(*arguments)

    def process(inputs, seconds):
        clock = Clock(tmp_path)
        everyone = SimpleNamespace(is_first=True, wait=lambda: None, by_first=call)
        session = SimpleNamespace(processes=everyone, clock=clock)
        began = start_over_unless_same(session, tmp_path / "work", inputs, "teacher")
        with clock.charge("teacher"):
            now(seconds)
        return clock.seconds["teacher"] - began

    assert [process({"of": 1}, 3), process({"of": 1}, 4)] == [3, 7]
    assert process({"of": 2}, 5) == 5


def test_a_killed_process_is_charged_by_the_next(tmp_path, now):
    first = Clock(tmp_path)
    stage = first.charge("training cpd")
    stage.__enter__()  # never left: the process is killed
    now(7)
    first.beat()
    os.utime(tmp_path / "seconds.json", (0, time.time()))  # what `beat` did, by the moved clock
    now(100)  # nobody works
    second = Clock(tmp_path)
    with second.charge("training cpd"):
        assert second.spent() == 7
        now(3)
        assert second.spent() == 10
    second.forget("training cpd")
    assert Clock(tmp_path).seconds == {}


def test_a_broken_record_of_time_stops_nobody(tmp_path):
    (tmp_path / "seconds.json").write_text('{"seconds": ')
    assert Clock(tmp_path).seconds == {}
