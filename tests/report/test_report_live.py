"""A run while it goes on, looked at by somebody who must not disturb it."""

import fcntl
import json
import os
import re
import shutil
import threading
import time
import urllib.error
import urllib.request

import pytest

from conftest_pictures import leave_out_pictures
from tutelage.errors import ConfigError, RunFolderError
from tutelage.pipeline.context.folder import STOPPED, RunFolder
from tutelage.proofs import read_sealed, write_sealed
from tutelage.report.live import LiveReader, Tail
from tutelage.report.running import process_of
from tutelage.report.timing import ArmTime, seconds_left
from tutelage.watch import Watch, follow, served


def test_a_log_is_read_on_and_its_torn_end_is_left_for_later(tmp_path):
    log = tmp_path / "metrics.jsonl"
    tail = Tail(log)
    assert tail.rows() == []
    log.write_text('{"step": 1, "loss": 3}\n{"step": 2, "lo')
    assert [row["step"] for row in tail.rows()] == [1]
    with log.open("a") as file:
        file.write('ss": 2}\nnot json\n[1]\n{"step": 2, "loss": 1}\n')
    assert tail.rows() == [{"step": 1, "loss": 3}, {"step": 2, "loss": 1}]
    # A resumed training replaces the file by a shorter one.
    other = tmp_path / "other"
    other.write_text('{"step": 1, "loss": 9}\n')
    os.replace(other, log)
    assert tail.rows() == [{"step": 1, "loss": 9}]
    log.write_text("")
    assert tail.rows() == []


def halves(**changes) -> ArmTime:
    """An arm whose first ten of 100 steps took 12 seconds to load and to make, then 1 s each."""
    known = {"planned": 100, "done": False, "steps": (10, 20, 50), "seconds": (12.0, 22.0, 52.0)}
    return ArmTime(**{**known, **changes})


@pytest.mark.parametrize(
    ("arms", "left"),
    [
        ([halves()], 50.0),  # 50 more steps at a second each
        ([halves(evaluation=7.0)], 57.0),
        # By a cost of which the second half of the steps has three quarters: 0.2 of it took the 40
        # steps between both records, 40 s, so the other 0.75 take 150 s.
        ([halves(course=(0.0, 0.25, 1.0))], 150.0),
        # The estimate of 51 s was half of the 102 that it takes, so 30 s will be 60.
        ([halves(estimate=51.0), halves(steps=(), seconds=(), estimate=30.0)], 110.0),
        ([halves(), halves(steps=(), seconds=(), planned=50)], 101.0),
        ([halves(done=True, evaluation=3.0)], 3.0),
        ([halves(steps=(), seconds=(), estimate=30.0)], 30.0),
        ([halves(steps=(), seconds=())], None),
    ],
)
def test_the_time_left_is_the_plans_cost_at_the_speed_so_far(arms, left):
    assert seconds_left(arms) == (None if left is None else pytest.approx(left))


@pytest.fixture
def going(run_folder, tmp_path):
    """A run as it is in the middle of its training: its main arm's records, and no student yet."""
    folder = shutil.copytree(
        run_folder, tmp_path / "run", ignore=shutil.ignore_patterns("student", "report.html")
    )
    for arm in ("cpd", "sft", "kld"):
        shutil.rmtree(folder / "arms" / arm / "evaluation")
    (folder / "arms/cpd/training").mkdir()
    for arm in ("sft", "kld"):
        (folder / "arms" / arm / "metrics.jsonl").unlink()
    (folder / "run.json").unlink()
    clock = read_sealed(folder / "seconds.json")
    running = {"stage": "training cpd", "since": time.time()}
    write_sealed(folder / "seconds.json", {**clock, "running": running})
    return folder


def silent(folder, seconds):
    then = time.time() - seconds
    for path in (folder / "seconds.json", *folder.glob("arms/*/*.jsonl")):
        os.utime(path, (then, then))


def test_a_run_in_progress_is_seen_without_its_lock(going):
    with (going / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = LiveReader(going).look()
        assert process_of(going).pid == os.getpid()
    assert (run.state, run.stage) == ("running", "training cpd")
    assert "training cpd: step 12 of 12, stage 4 of 4 of its plan" in run.line
    assert [(arm.name, arm.state) for arm in run.arms] == [
        ("cpd", "training"),
        ("sft", "waiting"),
        ("kld", "waiting"),
    ]
    assert run.left is not None and run.left > 0 and run.arms[0].tokens_per_second > 0
    assert run.memory and run.memory[0] <= run.memory[1]
    assert json.loads(json.dumps(run.as_dict()))["arms"][0]["last"]["step"] == 12


def test_silence_is_a_stall_where_a_process_lives_and_a_kill_where_none_does(going):
    silent(going, 1000)
    run = LiveReader(going).look()
    assert run.state == "killed" and "in 'training cpd'" in run.message and run.left is None
    with (going / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert LiveReader(going).look().state == "stalled"
        silent(going, 100)
        assert LiveReader(going).look().state == "running"


def test_what_ended_a_run_is_said_until_it_goes_on(tmp_path):
    folder = tmp_path / "run"
    errors = (
        (RunFolderError("The disk is full."), "failed", "The disk is full."),
        (ValueError("odd\nmore"), "failed", "ValueError: odd"),
        (KeyboardInterrupt(), "interrupted", "Interrupted by a signal."),
    )
    for error, state, message in errors:
        with pytest.raises(type(error)), RunFolder(folder, "f", "name: r\ntitle: T\n"):
            assert not (folder / STOPPED).exists()
            raise error
        write_sealed(folder / "seconds.json", {"seconds": {"data": 2.0}, "running": None})
        silent(folder, 100)
        run = LiveReader(folder).look()
        assert (run.state, run.name, run.title, run.spent) == (state, "r", "T", 2.0)
        assert run.message.startswith(message)
    with RunFolder(folder, "f", "name: r\n"):
        assert not (folder / STOPPED).exists()
    silent(folder, 100)
    assert LiveReader(folder).look().state == "not running"


def test_a_run_of_another_recipe_that_is_refused_leaves_no_word(tmp_path):
    with RunFolder(tmp_path / "run", "one", "name: one\n"):
        pass
    with pytest.raises(ValueError, match="refused"), RunFolder(tmp_path / "run", "two", "name: t"):
        raise ValueError("refused")
    assert not (tmp_path / "run" / STOPPED).exists()


def test_a_finished_run_and_one_that_is_not_there_yet(run_folder, tmp_path):
    run = LiveReader(run_folder).look()
    assert run.state == "finished" and run.is_over and run.left is None
    assert all(arm.state == "evaluated" for arm in run.arms)
    assert LiveReader(tmp_path / "later").look().state == "not started"
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"no run folder.*nothing to watch"):
        LiveReader(tmp_path)


def test_estimates_are_noted_where_a_watch_finds_them(run_folder):
    cost = read_sealed(run_folder / "cost.json")["arms"]
    assert list(cost) == ["cpd", "sft", "kld"]
    for one in cost.values():
        assert one["seconds"] > 0 and len(one["course"]) == 101
        assert one["course"][0] == 0 and one["course"][-1] == 1
        assert one["course"] == sorted(one["course"])


def test_the_page_is_written_whole_and_says_where_the_run_is(going, monkeypatch):
    leave_out_pictures(monkeypatch)
    watch = Watch(going, interval=0.01)
    before = {p: p.stat().st_mtime_ns for p in going.rglob("*") if p.is_file()}
    run = watch.write()
    after = {p: p.stat().st_mtime_ns for p in going.rglob("*") if p.is_file()}
    assert {p.name for p in after.keys() - before.keys()} == {"live.html"}
    assert all(after[path] == stamp for path, stamp in before.items())
    page = (going / "live.html").read_text()
    assert run.state == "running" and "Training cpd: step 12 of 12" in page
    # Its one script is the one that the page allows, and nothing is loaded.
    assert page.count("<script>") == 1 and "script-src 'sha256-" in page
    assert 'http-equiv="refresh"' not in page and not re.search(r"(src|href)=\"(?![#d])", page)
    assert "student before" in page and "teacher" in page  # answers so far
    silent(going, 1000)
    killed = Watch(going).page(refreshing=False)
    assert "Killed." in killed and "<script" not in killed


def test_a_page_that_is_not_asked_for_is_not_drawn_and_not_too_often(going, monkeypatch):
    leave_out_pictures(monkeypatch)
    watch = Watch(going, interval=3600)
    assert watch.look() is watch.look() and watch.page() is watch.page()
    assert watch.rest > 3000
    for interval in (0, -1, float("nan"), 1e9):
        with pytest.raises(ConfigError, match="--interval"):
            Watch(going, interval)


def test_nothing_is_put_where_no_run_is(tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    watch = Watch(tmp_path / "later", interval=0.01)
    assert watch.write().state == "not started"
    assert not list(tmp_path.iterdir())


def test_a_watch_ends_when_the_run_has(run_folder, tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    folder = shutil.copytree(run_folder, tmp_path / "run", copy_function=os.link)
    told = []
    run = follow(Watch(folder, 0.01), threading.Event(), told.append)
    assert run.state == "finished" and told == [run]
    page = (folder / "live.html").read_text()
    assert "<script" not in page and 'href="report.html"' in page


def test_a_study_is_watched_run_by_run(going, run_folder, tmp_path):
    study = tmp_path / "study"
    (study / "runs").mkdir(parents=True)
    (study / "study.yaml").write_text("name: study\n")
    (study / "runs/kld-s0").symlink_to(run_folder)
    (study / "runs/cpd-s0").symlink_to(going)
    for name, record in (("results/kld-s0", {}), ("failed/sft-s0", {"why": "no room"})):
        path = study / f"{name}.json"
        path.parent.mkdir()
        path.write_text(json.dumps(record))
    watch = Watch(study)
    found = watch.write()
    assert found.line == "study: running, 1 result, 1 failed, at work: cpd-s0"
    assert {name: run.state for name, run in found.runs.items()} == {
        "cpd-s0": "running",
        "kld-s0": "finished",
    }
    page = (study / "live.html").read_text()
    rows = dict(re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', page))
    assert rows == {"kld-s0": "done", "cpd-s0": "running", "sft-s0": "failed<small>no room</small>"}
    assert json.loads(json.dumps(found.as_dict()))["failed"] == {"sft-s0": "no room"}


def test_what_is_served_is_for_this_machine_and_for_reading(run_folder, monkeypatch):
    leave_out_pictures(monkeypatch)
    before = sorted(run_folder.iterdir())
    with served(Watch(run_folder, 60), 0) as address:
        assert address.startswith("http://127.0.0.1:")

        def ask(path, method="GET", **headers):
            request = urllib.request.Request(address + path, method=method, headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return answer.status, answer.read(), answer.headers
            except urllib.error.HTTPError as error:
                return error.code, error.read(), error.headers

        status, page, headers = ask("")
        assert status == 200 and b"Finished." in page and headers["Cache-Control"] == "no-store"
        assert json.loads(ask("state.json")[1])["state"] == "finished"
        assert ask("report.html")[1] == (run_folder / "report.html").read_bytes()
        assert ask("", "HEAD")[:2] == (200, b"")
        for path in (
            "recipe.yaml",
            "../recipe.yaml",
            "%2e%2e/x",
            "arms/cpd/student/config.json",
            "/etc/passwd",
        ):
            assert ask(path)[0] == 404
        assert ask("", Host="elsewhere.example:80")[0] == 403
        for method in ("POST", "PUT", "DELETE"):
            assert ask("", method)[0] == 501
        port = int(address.rstrip("/").rpartition(":")[2])
        with pytest.raises(ConfigError, match="cannot be used"), served(Watch(run_folder), port):
            pass
    with pytest.raises(ConfigError, match="--port"), served(Watch(run_folder), 70_000):
        pass
    assert sorted(run_folder.iterdir()) == before
