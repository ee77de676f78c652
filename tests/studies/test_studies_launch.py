"""Workers as jobs: submitit's own local executor, and what it would tell SLURM."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from made_up import STUDY, made_up
from submitit.slurm.test_slurm import mocked_slurm
from typer.testing import CliRunner

from tutelage.cli import app
from tutelage.errors import ConfigError, MissingDependencyError, RunFolderError
from tutelage.studies import follow, launch
from tutelage.studies.board import Board
from tutelage.studies.load import load_study
from tutelage.studies.watch import state_of


@dataclass(frozen=True)
class MadeUpJob(launch.WorkerJob):
    """A job whose runs cost nothing."""

    def __call__(self):
        from made_up import instead_of_runs

        instead_of_runs()
        super().__call__()


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A study file; jobs find this folder, and note what they do in ``notes``."""
    notes = tmp_path / "notes"
    notes.mkdir()
    monkeypatch.setenv("MADE_UP_NOTES", str(notes))
    here = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(here))
    monkeypatch.setattr(launch, "WorkerJob", MadeUpJob)
    monkeypatch.setattr(follow, "_PAUSE", 0.05)
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "output": str(tmp_path / "runs")}))
    return path


def begun(path):
    """Which processes began what, by task."""
    notes = path.parent / "notes"
    return {file.stem: file.read_text().split() for file in sorted(notes.glob("*.begun"))}


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
def test_jobs_of_this_machine_do_the_study_and_the_command_says_what_they_leave(path):
    lines = []
    state = launch.launch_study(path, launcher="local", workers=2, say=lines.append)
    assert state.finished and not state.failures
    assert lines[0].startswith("small: 2 jobs submitted (local ")
    assert len(lines) == 7 and lines[-1].startswith("6/6 ")
    assert {line.split(", test:exact_match")[0][4:] for line in lines[1:]} == {
        f"{arm}, seed {seed}" for arm in ("kld", "sft") for seed in range(3)
    }
    assert all(len(who) == 1 for who in begun(path).values())
    lines.clear()
    again = launch.launch_study(path, launcher="local", workers=2, say=lines.append)
    assert again.finished and not lines  # nothing is submitted when nothing is due


@pytest.mark.slow
def test_a_job_whose_time_is_up_is_queued_again_and_goes_on(path):
    (path.parent / "notes" / "hold").touch()
    lines = []
    launch.launch_study(path, launcher="local", workers=1, detach=True, say=lines.append)
    assert "--workers 0 follows" in lines[-1]
    wait_until(lambda: any(begun(path).values()))
    ((first, (process,)),) = begun(path).items()
    os.kill(int(process), signal.SIGUSR2)  # as SLURM does when time is up, or for preemption
    wait_until(lambda: len(begun(path)[first]) == 2)
    (path.parent / "notes" / "hold").unlink()
    followed = launch.follow_study(path, say=lines.append)
    assert followed.finished and begun(path)[first][1] != process
    assert [len(who) for name, who in begun(path).items() if name != first] == [1] * 5


@dataclass(frozen=True)
class BrokenJob(launch.WorkerJob):
    def __call__(self):
        sys.exit("no module named tutelage on this node")


def test_jobs_that_end_before_the_study_are_one_message(path, monkeypatch):
    monkeypatch.setattr(launch, "WorkerJob", BrokenJob)
    with pytest.raises(RunFolderError, match=r"ended before the study .*on this node"):
        launch.launch_study(path, launcher="local", workers=1)


# ---- what SLURM would be told: nobody could try it here ---------------------------------------

OPTIONS = {
    "time": "90m",
    "cpus": 4,
    "gpus": 1,
    "memory": 24,
    "partition": "long",
    "account": "me",
    "sbatch": {"constraint": "a100"},
}


def test_the_script_for_slurm(path):
    with mocked_slurm():
        options = {f"launcher.{name}": value for name, value in OPTIONS.items()}
        launch.launch_study(path, options, launcher="slurm", workers=3, detach=True)
    folder = path.parent / "runs/studies/small/jobs"
    (script,) = folder.glob("*_submission.sh")
    lines = script.read_text().splitlines()
    given = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert given >= {
        "time=90",
        "cpus-per-task=4",
        "gpus-per-node=1",
        "mem=24GB",
        "partition=long",
        "account=me",
        "constraint=a100",
        "job-name=tutelage-small",
        "nodes=1",
        "array=0-2%3",
        "requeue",
        "open-mode=append",
    }
    assert any(one.startswith("signal=USR2@") for one in given)
    (step,) = [line for line in lines if line.startswith("srun")]
    assert "--cpus-per-task 4" in step and "submitit.core._submit" in step
    assert len([*folder.glob("*_submitted.pkl")]) == 3


def test_a_job_of_slurm_works_and_the_command_follows_it(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tutelage.studies.carry", None)
    lines = []
    with mocked_slurm() as slurm:

        def sleeps(seconds):  # the job runs while the command waits
            from submitit.core.submission import process_job

            with slurm.job_context("12"):
                handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR2)}
                process_job(path.parent / "runs/studies/small/jobs")
                for number, handler in handlers.items():
                    signal.signal(number, handler)

        monkeypatch.setattr(follow.time, "sleep", sleeps)
        state = launch.launch_study(path, launcher="slurm", say=lines.append)
    assert state.finished and lines[0].startswith("small: 1 job submitted (slurm 12)")
    assert lines[-1].startswith("6/6 ")


def test_what_is_queued_again_is_the_same_worker(path):
    job = launch.WorkerJob(str(path), {"seeds": 2}, None, 1)
    assert job.checkpoint().function == job


def test_without_slurm_or_submitit_there_is_one_message(path, monkeypatch):
    with pytest.raises(ConfigError, match=r"could not be submitted \(slurm\).*srun.*--worker"):
        launch.launch_study(path, launcher="slurm")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tutelage\[slurm\]'"):
        launch.launch_study(path, launcher="local")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--worker", "--launcher", "local"], "Give one of them"),
        (["--worker", "--workers", "2"], "Give one of them"),
        (["--launcher", "slrum"], "Did you mean 'slurm'"),
        (["--detach"], "add --launcher"),
        (["--launcher", "local", "--launcher-option", "gpu=1"], "unknown key 'launcher.gpu'"),
        (
            ["--launcher", "local", "--launcher-option", "time=long"],
            "launcher.time long: write a time",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(path, words, message):
    found = CliRunner().invoke(app, ["study", str(path), *words])
    assert found.exit_code != 0 and message in str(found.exception)
    assert not Board(load_study(path).folder).results()


def test_following_starts_nobody(path, monkeypatch):
    loaded = load_study(path)
    board = Board(loaded.folder)
    tasks = state_of(loaded).due.ready

    def sleeps(seconds):  # somebody elsewhere does one after another
        if len(tasks) == 1:
            board.fail(tasks[0].result, tasks[0].title, "no room.")
        board.write(tasks[0].result, made_up(tasks.pop(0))) if len(tasks) > 1 else tasks.clear()

    monkeypatch.setattr(follow.time, "sleep", sleeps)
    lines = []
    state = launch.follow_study(path, say=lines.append)
    assert [one["why"] for one in state.failures.values()] == ["no room."]
    assert lines[1].startswith("1/6 kld, seed 0") and len(lines) == 7
    assert lines[-1] == "failed: sft, seed 2 (why is said at the end)"
