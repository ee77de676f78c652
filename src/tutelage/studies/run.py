"""A study carried out: worker processes are started, and what they do is said line by line."""

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import yaml

from tutelage.errors import ConfigError
from tutelage.studies.board import Board
from tutelage.studies.lines import Event, Lines
from tutelage.studies.load import LoadedStudy, load_study
from tutelage.studies.sampler import need_optuna
from tutelage.studies.watch import StudyState, Watch
from tutelage.studies.worker import work

STUDY_FILE = "study.yaml"
"""In the folder of a study: what it says."""

_MEASURED = 60.0
"""Seconds after which the memory of the first worker is taken for what each will need."""

_SPARE = 1.3
_PATIENCE = 30.0
"""Seconds that workers have to end when they are asked to."""


def run_study(
    source: str | Path | Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    *,
    workers: int | None = None,
    budget: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> StudyState:
    """Carry out a study with worker processes; what is there already is not done again.

    Args:
        source: path of a study, or a study as a mapping.
        overrides: keys of the study that are changed.
        workers: processes, at most; None for as many as cores and memory allow.
        budget: seconds; what runs then is stopped with its checkpoint, and goes on the next time.
        say: called with a line whenever a run ends.

    Raises:
        TutelageError: the study cannot be carried out; the message says why.
    """
    loaded = begun(source, overrides)
    if isinstance(source, Mapping):
        source = loaded.folder / STUDY_FILE
        overrides = None
    watch = Watch(loaded)
    state = watch.look()
    if not state.due.ready:
        return state
    count, threads = _shares(loaded, workers)
    say(_opening(loaded, state, count, threads))
    deadline = None if budget is None else time.time() + budget
    arguments = [
        str(source),
        json.dumps(dict(overrides or {})),
        "" if deadline is None else str(deadline),
    ]
    crew = _Crew(arguments, threads, loaded.folder / "workers.log")
    lines = Lines(loaded, watch, say, count)
    with crew:
        crew.hire()
        for event in crew.events(count, deadline):
            if event["event"] != "waiting":  # for one of this crew's own
                lines.told(event)
    return watch.look()


def work_here(
    source: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    budget: float | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> StudyState:
    """Be one worker of a study, beside any others on this machine or on ones that share its folder.

    Args:
        source: path of a study.
        overrides: keys of the study that are changed.
        budget: seconds after which nothing new is begun.
        say: called with a line whenever a run of this worker ends.

    Raises:
        TutelageError: the study cannot be carried out; the message says why.
    """
    loaded = begun(source, overrides)
    watch = Watch(loaded)
    state = watch.look()
    if state.due.ready:
        _, threads = _shares(loaded, 1)
        os.environ.update(thread_variables(threads))  # read when torch is imported
        say(_opening(loaded, state, 1, threads))
        deadline = None if budget is None else time.time() + budget
        work(loaded, tell=Lines(loaded, watch, say, 1).told, deadline=deadline)
    return watch.look()


def begun(
    source: str | Path | Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> LoadedStudy:
    """A study whose folder says what it is, and in which what failed may be tried again."""
    loaded = load_study(source, overrides)
    if any(loaded.sampled(cell) for cell in loaded.cells):
        need_optuna()
    board = Board(loaded.folder)
    board.keep_text(STUDY_FILE, yaml.safe_dump(loaded.study.model_dump(), sort_keys=False))
    board.forget_failures()
    return loaded


def thread_variables(threads: int) -> dict[str, str]:
    """Environment of a process whose runs have so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {**dict.fromkeys(names, str(threads)), "TOKENIZERS_PARALLELISM": "false"}


def _shares(loaded: LoadedStudy, workers: int | None) -> tuple[int, int]:
    """How many workers with how many threads each."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    threads = loaded.study.threads
    count = workers or (max(1, cores // threads) if threads else 1)
    runs = len(loaded.cells) * len(loaded.study.seeds.all)
    return max(1, min(count, runs)), threads or max(1, cores // count)


def _opening(loaded: LoadedStudy, state: StudyState, count: int, threads: int) -> str:
    there = sum(name in state.results for name in state.due.wanted)
    more = " and what follows from them" if state.due.open else ""
    with_threads = f"{count} worker{'s' * (count > 1)} of {threads} thread{'s' * (threads > 1)}"
    return (
        f"{loaded.study.name}: {len(state.due.ready)} runs to do{more}, {there} are there;"
        f" {with_threads}, in {loaded.folder}"
    )


class _Crew:
    """Worker processes and what they tell."""

    def __init__(self, arguments: list[str], threads: int, log: Path) -> None:
        self._arguments = arguments
        self._log = log
        self._threads = threads
        self._workers: list[subprocess.Popen[str]] = []
        self._told: queue.Queue[Event | None] = queue.Queue()
        self._file: IO[str] | None = None

    def __enter__(self) -> "_Crew":
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._log.open("a", encoding="utf-8")
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        if self._file is not None:
            self._file.close()

    def hire(self) -> None:
        """Start one more worker."""
        env = {**os.environ, **thread_variables(self._threads)}
        worker = subprocess.Popen(
            [sys.executable, "-m", "tutelage.studies.worker", *self._arguments],
            stdout=subprocess.PIPE,
            stderr=self._file,
            stdin=subprocess.PIPE,  # it closes with this process, however that ends
            text=True,
            env=env,
            start_new_session=True,  # Ctrl-C is for this process, which asks them to end
        )
        self._workers.append(worker)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()

    def _listen(self, worker: "subprocess.Popen[str]") -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            with contextlib.suppress(ValueError):
                self._told.put(json.loads(line))
        code = worker.wait()
        if code not in (0, 2, 130, -15, 143):
            self._told.put({"event": "error", "why": self._last_words(code)})
        self._told.put(None)

    def _last_words(self, code: int) -> str:
        if self._file is not None:
            self._file.flush()
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        killed = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        last = lines[-1][:300] if lines else "it said nothing"
        return (
            f"{killed} ({last}). Its log is {self._log}; the same command goes on from what is"
            " there."
        )

    def events(self, count: int, deadline: float | None) -> Iterator[Event]:
        """What the workers tell, until the last one has ended or time is up; more are hired.

        Args:
            count: workers in all.
            deadline: when to stop them.
        """
        ended, began, peak = 0, time.time(), 0
        while ended < len(self._workers):
            if deadline is not None and time.time() > deadline:
                return
            peak = max(peak, *(_peak_memory(worker.pid) for worker in self._workers))
            with contextlib.suppress(queue.Empty):
                event = self._told.get(timeout=0.5)
                ended += event is None
                if event is not None:
                    yield event
            known = ended == 0 and (time.time() - began > _MEASURED or peak > 0)
            if len(self._workers) < count and known and _fits(peak):
                self.hire()
                began = time.time()

    def stop(self) -> None:
        """Ask all workers to end, and see that they do."""
        for worker in self._workers:
            if worker.poll() is None:
                worker.terminate()
        patient = time.time() + _PATIENCE
        for worker in self._workers:
            try:
                worker.wait(max(0.1, patient - time.time()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def _peak_memory(pid: int) -> int:
    """Most bytes that a process has had; 0 where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _fits(need: int) -> bool:
    """Whether one more worker has room in memory; true where the system does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024 > _SPARE * need
    return True


def parse_budget(text: str, what: str = "--budget") -> float:
    """Seconds of ``90s``, ``10m``, ``2h``, ``1h30m`` or a plain number of seconds.

    Raises:
        ConfigError: it is none of these.
    """
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text)
    if not text or found is None or not any(found.groups()):
        raise ConfigError(f"{what} {text}: write a time, as in 90s, 10m, 2h or 1h30m.")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
