"""Workers of a study as jobs, of SLURM or of this machine, through submitit.

A job is one more worker on the study's folder: what it does is decided there, and nothing comes
back through it. So a job may end at any time and be queued again, and the command that submitted it
may be gone.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from tutelage.errors import ConfigError, MissingDependencyError, RunFolderError, first_line
from tutelage.studies.follow import follow
from tutelage.studies.lines import Event, Lines
from tutelage.studies.load import LoadedStudy, load_study
from tutelage.studies.run import begun, parse_budget, thread_variables
from tutelage.studies.watch import StudyState, Watch
from tutelage.studies.worker import work

_PATIENCE = 10.0
"""Seconds for workers to see that nothing is due any more."""

JOBS = "jobs"
"""In the folder of a study: what submitit writes, with the logs of the jobs."""


@dataclass(frozen=True)
class WorkerJob:
    """What a job does: it is a worker of a study.

    Attributes:
        source: path of the study.
        overrides: keys of the study that are changed.
        deadline: ``time.time()`` after which nothing new is begun.
        threads: of each run.
    """

    source: str
    overrides: Mapping[str, Any]
    deadline: float | None
    threads: int

    def __call__(self) -> None:
        """Work until nothing is due."""
        os.environ.update(thread_variables(self.threads))  # read when torch is imported
        work(load_study(self.source, self.overrides), tell=_log, deadline=self.deadline)

    def checkpoint(self) -> Any:
        """What submitit queues when the job's time is up or others come first: the same again.

        The run that it was at goes on from its last checkpoint, with whoever takes it up.
        """
        return _submitit().helpers.DelayedSubmission(self)


def _log(event: Event) -> None:
    print(json.dumps(event), flush=True)


def launch_study(
    source: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    launcher: str,
    workers: int | None = None,
    budget: float | None = None,
    detach: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> StudyState | None:
    """Carry out a study with jobs, and tell what they leave in its folder until it is finished.

    When this ends, however it ends, the jobs are cancelled that are left; unless it is detached.

    Args:
        source: path of a study, which the jobs read when they start.
        overrides: keys of the study that are changed.
        launcher: ``slurm``, or ``local`` for processes of this machine.
        workers: jobs; None for one.
        budget: seconds after which the jobs end.
        detach: return when the jobs are submitted.
        say: called with a line whenever a run ends.

    Returns:
        What the study has come to; None when it was detached from.

    Raises:
        TutelageError: the jobs cannot be submitted, or have all ended before the study has.
    """
    _submitit()
    loaded = begun(source, overrides)
    watch = Watch(loaded)
    state = watch.look()
    if not state.due.ready:
        return state
    count = min(workers or 1, len(loaded.cells) * len(loaded.study.seeds.all))
    threads = loaded.study.threads or loaded.study.launcher.cpus or 1
    deadline = None if budget is None else time.time() + budget
    job = WorkerJob(str(source), dict(overrides or {}), deadline, threads)
    jobs = _submitted(loaded, launcher, job, count)
    names = ", ".join(one.job_id for one in jobs)
    say(
        f"{loaded.study.name}: {count} job{'s' * (count > 1)} submitted ({launcher} {names}); logs"
        f" are in {loaded.folder / JOBS}"
    )
    if detach:
        say("they go on without this command; --workers 0 follows them")
        return None
    ended = False
    try:
        ended = follow(
            watch,
            Lines(loaded, watch, say, count).told,
            working=lambda: not all(one.done() for one in jobs),
            deadline=deadline,
        )
    finally:
        _end(jobs, _PATIENCE if ended else 0.0)
    if not ended:
        raise RunFolderError(
            f"All jobs have ended before the study has. {_last_words(jobs)} Their logs are in"
            f" '{loaded.folder / JOBS}'; the same command goes on from what is there."
        )
    return watch.look()


def follow_study(
    source: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    budget: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> StudyState:
    """Tell what workers elsewhere leave in the folder of a study, until it is finished.

    Args:
        source: path of a study.
        overrides: keys of the study that are changed.
        budget: seconds after which it is not followed any longer.
        say: called with a line whenever a run ends.
    """
    loaded = load_study(source, overrides)
    watch = Watch(loaded)
    deadline = None if budget is None else time.time() + budget
    say(f"{loaded.study.name}: following what is done in {loaded.folder}; nobody is started")
    follow(watch, Lines(loaded, watch, say, 1).told, deadline=deadline)
    return watch.look()


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise MissingDependencyError(
            "Jobs are submitted through the package 'submitit', which is not installed. Install it:"
            " pip install 'tutelage[slurm]'. Without it, `tutelage study STUDY --worker` on any"
            " machine that shares the folder is a worker too."
        ) from error
    return submitit


def _submitted(loaded: LoadedStudy, launcher: str, job: WorkerJob, count: int) -> list[Any]:
    """The jobs, in the queue."""
    options = loaded.study.launcher
    limits, parameters = {f"{launcher}_max_num_timeout": options.requeues}, _parameters(loaded)
    try:
        executor = _submitit().AutoExecutor(loaded.folder / JOBS, cluster=launcher, **limits)
        executor.update_parameters(**parameters)
        with executor.batch():
            return [executor.submit(job) for _ in range(count)]
    except (RuntimeError, ValueError, OSError, SubprocessError) as error:
        raise ConfigError(
            f"The jobs could not be submitted ({launcher}): {first_line(error)}. Look at `launcher`"
            " in the study, or start workers yourself with `tutelage study STUDY --worker`."
        ) from error


def _parameters(loaded: LoadedStudy) -> dict[str, Any]:
    """What submitit's executors are told; those of SLURM alone are passed over by the local one."""
    options = loaded.study.launcher
    cpus = options.cpus or loaded.study.threads or 1
    return {
        "name": f"tutelage-{loaded.study.name}",
        "timeout_min": math.ceil(parse_budget(options.time, "launcher.time") / 60),
        "cpus_per_task": cpus,
        "gpus_per_node": options.gpus or None,
        "mem_gb": options.memory,
        "slurm_partition": options.partition,
        "slurm_account": options.account,
        # Since SLURM 22.05 a step does not take these over from its job.
        "slurm_srun_args": ["--cpus-per-task", str(cpus)],
        "slurm_additional_parameters": {"requeue": True, **options.sbatch},
    }


def _end(jobs: Sequence[Any], patience: float) -> None:
    """Cancel the jobs that have not ended by themselves within some seconds."""
    until = time.monotonic() + patience
    while time.monotonic() < until and not all(one.done() for one in jobs):
        time.sleep(0.2)
    for one in jobs:
        if not one.done():
            one.cancel(check=False)


def _last_words(jobs: Sequence[Any]) -> str:
    """The last line of the log of a job that said something."""
    for job in jobs:
        path = Path(job.paths.stderr)
        lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
        said = [line.strip() for line in lines if line.strip()]
        if said:
            return f"Job {job.job_id} says: {said[-1][:300]}"
    return "None of them said anything."
