"""A clock that is set while a run goes on, and between a kill and what goes on from it."""

import json
import time

import pytest
from kill_points import run_to
from killing import make_models
from test_e2e_kill_points import assert_same, small

from tutelage.files import atomic_directory, remove_leftovers
from tutelage.pipeline.context.clock import FILE, Clock
from tutelage.pipeline.runs import list_runs

YEAR = 365 * 86400.0
POINTS = (r"rename .*cache/teacher-\w+$", r"rename .*replanned/after_stage_1$")


def moved(patch, jumps):
    """Every call of the clock goes on from another year, ahead or behind."""
    real, count = time.time, [0]

    def jumping():
        count[0] += 1
        return real() + jumps[count[0] % len(jumps)] * YEAR

    patch.setattr(time, "time", jumping)
    patch.setattr(time, "time_ns", lambda: int(jumping() * 1e9))


@pytest.mark.slow
@pytest.mark.parametrize("jumps", [(1, -1, 0), (-3,), (40,)], ids=["to and fro", "back", "ahead"])
def test_a_run_under_a_clock_that_moves(tmp_path, jumps):
    make_models(tmp_path)
    began = time.monotonic()
    killed, _ = run_to(small(tmp_path, "whole"), tmp_path / "whole/run", tmp_path)
    assert not killed
    for number, point in enumerate((*POINTS, None)):
        with pytest.MonkeyPatch.context() as patch:
            moved(patch, [jump * (-1) ** number for jump in jumps])
            recipe, place = small(tmp_path, "broken"), tmp_path / "broken/run"
            killed, done = run_to(recipe, place, tmp_path, kill_before=point)
            assert killed == (point is not None), done
    assert_same(tmp_path, "whole", "broken")
    seconds = json.loads((tmp_path / "broken/run" / FILE).read_text())["seconds"]
    assert 0 < sum(seconds.values()) < time.monotonic() - began
    (entry,) = list_runs(tmp_path / "broken")
    assert entry.state == "finished"


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
def test_time_is_charged_by_a_clock_that_nobody_sets(tmp_path, monkeypatch, jump):
    passed, set_by = [1000.0], [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    monkeypatch.setattr(time, "time", lambda: 2e9 + passed[0] + set_by[0])
    clock = Clock(tmp_path)
    stage = clock.charge("training cpd")
    stage.__enter__()  # a kill never leaves it
    passed[0] += 30
    set_by[0] = jump
    clock.beat()
    passed[0] += 12
    clock.beat()
    assert Clock(tmp_path).seconds == {"training cpd": 42.0}


def test_what_another_process_writes_stays_whatever_the_clock_says(tmp_path, monkeypatch):
    real = time.time
    with atomic_directory(tmp_path / "made") as writing:
        (writing / "file").write_text("x")
        for jump in (YEAR, -YEAR):
            monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
            remove_leftovers(tmp_path, alone=False)
            assert (writing / "file").exists()
    assert (tmp_path / "made/file").read_text() == "x"
