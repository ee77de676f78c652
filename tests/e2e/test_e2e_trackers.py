"""Trackers: their files stay, and one that is not installed is said before any work."""

import importlib.util
import shutil

import pytest
from killing import make_models, small_recipe

from tutelage.errors import MissingDependencyError
from tutelage.pipeline import run
from tutelage.pipeline.stages.train import carry_out


def tracked(folder, *trackers):
    """A run of one arm that is as short as can be."""
    make_models(folder)
    recipe = small_recipe(folder, report_to=list(trackers))
    recipe["data"] = {**recipe["data"], "validation": 0, "test": 0}
    return {**recipe, "selection": {"metric": None}, "controls": {}}


def test_tensorboard_stays_and_has_each_step_once_after_a_kill(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = tracked(tmp_path, "tensorboard")
    recipe["training"]["keep_checkpoints"] = 9

    def stopped(session, job, rows):
        """Train on, then lose all after the checkpoint at step 4."""
        trained = carry_out(session, job, rows)
        for path in job.folder.glob("checkpoint-*"):
            if int(path.name.split("-")[1]) > 4:
                shutil.rmtree(path)
        raise KeyboardInterrupt(trained.steps)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("tutelage.pipeline.stages.train.carry_out", stopped)
        run(recipe, run_dir=tmp_path / "run")
    result = run(recipe, run_dir=tmp_path / "run")
    folder = result.folder / "arms" / "cpd"
    assert not (folder / "training").exists()
    events = EventAccumulator(str(folder / "tracking"))
    events.Reload()
    steps = [event.step for event in events.Scalars("train/loss")]
    assert steps == list(range(1, steps[-1] + 1)) and len(steps) > 6


def test_trackio_needs_no_network(tmp_path):
    pytest.importorskip("trackio")
    result = run(tracked(tmp_path, "trackio"), run_dir=tmp_path / "run")
    assert result.student.is_dir()


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_tracker_that_is_not_installed_is_said_before_any_work(tmp_path, monkeypatch, name):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda asked, *more: None if asked == name else found(asked)
    )
    with pytest.raises(MissingDependencyError, match=rf"{name}.*pip install 'tutelage\[{name}\]'"):
        run(tracked(tmp_path, name), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
