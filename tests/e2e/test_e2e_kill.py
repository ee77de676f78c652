"""A run that is killed again and again ends with the same weights as one that is not."""

import json
import os
import signal

import pytest
from killing import (
    assert_same_students,
    killed_run,
    make_models,
    methods_recipe,
    run_in_child,
    small_recipe,
)
from tqdm import tqdm


def records(run_dir, arm="cpd"):
    rows = [
        json.loads(line)
        for line in (run_dir / f"arms/{arm}/metrics.jsonl").read_text().splitlines()
    ]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture
def recipe(tmp_path):
    make_models(tmp_path)
    return small_recipe(tmp_path)


def test_a_few_kills(tmp_path, recipe):
    assert run_in_child(recipe, tmp_path / "whole")
    kills = killed_run(recipe, tmp_path / "broken", seed=3, mean_life=0.3, max_kills=6)
    assert sum(kills.values()) >= 1  # a fast machine is through before many come
    assert_same_students(tmp_path / "whole", tmp_path / "broken")
    assert records(tmp_path / "whole") == records(tmp_path / "broken")
    answers = [
        (tmp_path / name / "arms/cpd/evaluation/answers.jsonl").read_text()
        for name in ("whole", "broken")
    ]
    assert answers[0] == answers[1]
    assert not list((tmp_path / "broken").rglob(".tmp-*"))


def test_who_is_killed_while_it_draws_a_bar_keeps_nobody_waiting():
    child = os.fork()
    if child == 0:
        tqdm.get_lock().acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with tqdm.get_lock():  # and a child has one of its own while this one is held
        child = os.fork()
        if child == 0:
            os._exit(0 if tqdm.get_lock().acquire(blocking=False) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.slow
def test_kills_of_methods_that_decide_while_training(tmp_path, capsys):
    make_models(tmp_path)
    assert run_in_child(methods_recipe(tmp_path, "one"), tmp_path / "whole")
    recipe = methods_recipe(tmp_path, "two")
    kills = killed_run(recipe, tmp_path / "broken", seed=0, mean_life=2.0, max_kills=60)
    assert_same_students(tmp_path / "whole", tmp_path / "broken")
    for arm in ("cpd", "dynamic", "taid", "gkd", "distillm", "seqkd", "pocl"):
        assert records(tmp_path / "whole", arm) == records(tmp_path / "broken", arm)
    with capsys.disabled():
        print(f"\n{sum(kills.values())} kills survived")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_many_kills(tmp_path, recipe, seed, capsys):
    assert run_in_child(recipe, tmp_path / "whole")
    kills = killed_run(recipe, tmp_path / "broken", seed=seed, mean_life=1.0, max_kills=60)
    assert_same_students(tmp_path / "whole", tmp_path / "broken")
    assert records(tmp_path / "whole") == records(tmp_path / "broken")
    with capsys.disabled():
        print(f"\nseed {seed}: {sum(kills.values())} kills survived: {dict(kills)}")
