"""Workers in processes of their own on one folder, one of them killed: the study of one alone."""

import os
import random
import signal
import time

import pytest
import yaml
from killing import make_models
from test_e2e_kill_points import small
from test_e2e_shared_cache import ended_well, in_child

from tutelage.studies.load import load_study
from tutelage.studies.watch import state_of
from tutelage.studies.worker import work


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with models, and a base recipe whose teacher is fine-tuned and stored first."""
    folder = tmp_path_factory.mktemp("workers")
    make_models(folder)
    recipe = small(folder, "runs")
    del recipe["selection"]
    recipe["data"]["validation"] = 4
    recipe["training"]["checkpoint_every"] = 1
    (folder / "base.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def study(home, output, **more):
    return load_study(
        {
            "name": "small",
            "base": str(home / "base.yaml"),
            "set": {"curriculum": {"stages": 3}},
            "arms": {"kld": {"extends": "kld"}, "dynamic": {"extends": "cpd_dynamic"}},
            "equal": {"updates": 6},
            "seeds": 1,
            "search": {"factors": {"training.learning_rate": [3e-3, 1e-2]}, "rungs": 2},
            "output": str(output),
            **more,
        }
    )


@pytest.fixture(scope="module")
def alone(home, tmp_path_factory):
    """What one worker makes that nobody disturbs."""
    loaded = study(home, tmp_path_factory.mktemp("alone"))
    work(loaded, tell=lambda event: None)
    return table(loaded)


def table(loaded):
    """All results by name, without what depends on the clock."""
    state = state_of(loaded)
    assert state.finished and not state.failures, state.failures
    found = {}
    for name in state.due.wanted:
        one = state.results[name]
        curve = [{k: v for k, v in row.items() if k != "seconds"} for row in one.curve]
        assert one.ledger is not None
        spent = (one.ledger.updates, one.ledger.student_tokens, one.ledger.flops)
        stages = {*one.ledger.seconds}  # what is shared is charged to all that need it
        facts = (one.steps, one.value, one.scores, one.references, one.agreement)
        found[name] = (facts, curve, spent, stages)
    return found


def worker_of(loaded):
    return in_child(lambda: work(loaded, tell=lambda event: None))


def assert_made_by_all(loaded, alone):
    """The table of one worker alone, what is shared made once, and nothing left behind."""
    assert table(loaded) == alone
    cache = loaded.folder.parents[1] / "cache"
    assert len([*cache.glob("teacher-*")]) == 1
    assert not [*(loaded.folder / ".claims").iterdir()]


@pytest.mark.slow
def test_a_worker_that_is_killed_leaves_its_run_to_the_other(home, alone, tmp_path):
    loaded = study(home, tmp_path)
    first, second = worker_of(loaded), worker_of(loaded)
    results = loaded.folder / "results"
    while not results.is_dir() or not [*results.glob("*.json")]:
        time.sleep(0.01)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    assert ended_well(second)
    assert_made_by_all(loaded, alone)


@pytest.mark.slow
def test_two_workers_make_what_they_share_once(home, alone, tmp_path):
    loaded = study(home, tmp_path)
    children = [worker_of(loaded) for _ in range(2)]
    assert [ended_well(child) for child in children] == [True, True]
    assert_made_by_all(loaded, alone)
    assert not [*(loaded.folder.parents[1] / "cache").rglob(".tmp-*")]


@pytest.mark.slow
def test_two_workers_killed_at_ten_moments(home, alone, tmp_path):
    loaded, rng = study(home, tmp_path), random.Random(7)
    crew = [worker_of(loaded) for _ in range(2)]
    for _ in range(10):
        time.sleep(rng.expovariate(1.0))
        victim = crew.pop(0)
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        crew.append(worker_of(loaded))
    assert all(ended_well(child) for child in crew)
    assert_made_by_all(loaded, alone)
