"""Runs that share a cache: one makes a thing, the others wait; what a killed one left goes."""

import os
import shutil
import sys
import time
import traceback

from killing import make_models
from test_e2e_kill_points import small

from tutelage.files import atomic_directory, remove_leftovers
from tutelage.locks import held, used


def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return child


def ended_well(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_two_runs_that_fine_tune_one_teacher(tmp_path):
    from tutelage.pipeline import run

    make_models(tmp_path)
    recipes = [small(tmp_path, "runs", name=name) for name in ("one", "two")]
    for number, recipe in enumerate(recipes):
        recipe["training"]["learning_rate"] = 1e-2 / (number + 1)
    children = [
        in_child(lambda r=recipe, n=number: run(r, run_dir=tmp_path / f"run{n}"))
        for number, recipe in enumerate(recipes)
    ]
    assert [ended_well(child) for child in children] == [True, True]
    teachers = [p.name for p in (tmp_path / "runs/cache").glob("teacher-*")]
    assert len(teachers) == 1 and not teachers[0].endswith("-training")


def test_two_runs_that_need_one_part(tmp_path, monkeypatch):
    from tutelage.pipeline.run import open_session
    from tutelage.pipeline.stages import data
    from tutelage.recipe import load_recipe

    make_models(tmp_path)
    recipe = load_recipe(small(tmp_path, "runs"))
    held, told, load = tmp_path / "held", tmp_path / "told", data.load_splits

    def wait_for(path):
        while not path.exists():
            time.sleep(0.01)

    def make():
        def slowly(*given):
            held.touch()
            wait_for(told)
            return load(*given)

        data.load_splits = slowly
        with open_session(recipe, tmp_path / "one", True) as session:
            data.prepare_data(session)

    said = []

    def note(text):
        said.append(text)
        if text.startswith("waiting"):
            told.touch()

    child = in_child(make)
    wait_for(held)
    with open_session(recipe, tmp_path / "two", True) as session:
        monkeypatch.setattr(session.display, "note", note)
        monkeypatch.setattr(data, "load_splits", None)
        data.prepare_data(session)
    assert ended_well(child)
    assert f"waiting for process {child} ({tmp_path / 'one'}), which makes data" in said
    assert said[-1] == f"data: reused, from {tmp_path / 'one'}"


def test_who_waits_is_told_for_whom(tmp_path):
    def hold():
        with held(tmp_path, "teacher-1", tmp_path / "other", print):
            (tmp_path / "held").touch()
            while not (tmp_path / "told").exists():
                time.sleep(0.01)

    child = in_child(hold)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)

    def tell(text):
        assert f"process {child}" in text and str(tmp_path / "other") in text
        (tmp_path / "told").touch()

    with held(tmp_path, "teacher-1", tmp_path, tell):
        assert (tmp_path / "told").exists()
    assert ended_well(child)


def test_leftovers_go_when_nobody_else_uses_the_cache(tmp_path):
    left = tmp_path / "cache/.tmp-1"

    def use():
        with used(tmp_path / "cache"):
            assert left.exists()

    with used(tmp_path / "cache"):
        left.mkdir()
        assert ended_well(in_child(use)), "another one's work in progress went"
    with used(tmp_path / "cache"):
        assert not left.exists()
    assert not (tmp_path / "cache").exists(), "a cache with nothing in it stayed"


def test_what_others_remove_meanwhile_is_walked_past(tmp_path):
    def come_and_go():
        for number in range(400):
            folder = tmp_path / f"part-{number % 7}"
            (folder / "deep" / "deeper").mkdir(parents=True, exist_ok=True)
            shutil.rmtree(folder)

    child = in_child(come_and_go)
    left = tmp_path / "kept" / ".tmp-1"
    for _ in range(60):
        left.mkdir(parents=True)
        remove_leftovers(tmp_path)
        assert not left.exists()
    assert ended_well(child)


def test_what_a_living_process_writes_is_no_leftover(tmp_path):
    def clean():
        remove_leftovers(tmp_path, alone=False)

    abandoned, file = tmp_path / ".tmp-1", tmp_path / ".tmp-2"
    abandoned.mkdir()
    file.write_text("half")
    with atomic_directory(tmp_path / "made") as writing:
        for path in (abandoned, file, writing):
            os.utime(path, (0, 0))
        new = tmp_path / ".tmp-3"
        new.touch()  # by somebody who will hold it in a moment
        assert ended_well(in_child(clean))
        assert writing.is_dir() and new.exists()
        assert not abandoned.exists() and not file.exists()
    assert (tmp_path / "made").is_dir()
