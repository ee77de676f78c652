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
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from tutelage.errors import ConfigError, RunFolderError
from tutelage.studies.board import Board
from tutelage.studies.load import LoadedStudy, load_study
from tutelage.studies.results import Result
from tutelage.studies.tasks import Due, Planner

_MEASURED = 60.0
"""Seconds after which the memory of the first worker is taken for what each will need."""

_SPARE = 1.3
_PATIENCE = 30.0
"""Seconds that workers have to end when they are asked to."""


@dataclass(frozen=True)
class StudyState:
    """What a study has come to.

    Attributes:
        loaded: the study.
        results: all results by name.
        due: what is still to be done.
        failures: what failed, by name of the result: ``title`` and ``why``.
    """

    loaded: LoadedStudy
    results: Mapping[str, Result]
    due: Due
    failures: Mapping[str, Mapping[str, Any]]

    @property
    def finished(self) -> bool:
        """Whether all of its runs are there."""
        return not self.due.ready and not self.due.open


class Watch:
    """Looks at a study again and again; what does not change is not read or made again.

    Args:
        loaded: the study.
    """

    def __init__(self, loaded: LoadedStudy) -> None:
        self._loaded, self._board, self._planner = loaded, Board(loaded.folder), Planner(loaded)

    def look(self) -> StudyState:
        """What is there now, and what is still to be done."""
        results = self._board.results()
        due = self._planner.due(results)
        return StudyState(self._loaded, results, due, self._board.failures())


def state_of(loaded: LoadedStudy) -> StudyState:
    """What is there of a study, and what is still to be done."""
    return Watch(loaded).look()


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
    loaded = load_study(source, overrides)
    board = Board(loaded.folder)
    board.keep_text("study.yaml", yaml.safe_dump(loaded.study.model_dump(), sort_keys=False))
    if isinstance(source, Mapping):
        source = loaded.folder / "study.yaml"
        overrides = None
    board.forget_failures()
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
    lines = _Lines(loaded, watch, say, count)
    with crew:
        crew.hire()
        for event in crew.events(count, deadline):
            lines.told(event)
    return watch.look()


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


@dataclass
class _Lines:
    """One line for each run that ends, with what is left."""

    loaded: LoadedStudy
    watch: Watch
    say: Callable[[str], None]
    workers: int
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def told(self, event: Mapping[str, Any]) -> None:
        kind = event.get("event")
        if kind == "done":
            self.seconds.setdefault(event["role"], []).append(event["seconds"])
            self.say(self._done(event))
        elif kind == "failed":
            self.say(f"failed: {event['title']} (why is said at the end)")
        elif kind == "error":
            raise RunFolderError(f"A worker of the study stopped: {event['why']}")

    def _done(self, event: Mapping[str, Any]) -> str:
        from tutelage.report.quantities import duration  # it brings matplotlib

        state = self.watch.look()
        there = sum(name in state.results for name in state.due.wanted)
        total = f"{len(state.due.wanted)}{'+' if state.due.open else ''}"
        words = [f"{there}/{total} {event['title']}"]
        value = event.get("value")
        if event["role"] in ("pilot", "price"):
            words.append(f"{value:.0f} updates cost as much as the control's")
        elif value is not None:
            measure = event.get("measure", getattr(self.loaded.study.search, "measure", ""))
            words.append(f"{measure} {value:.4g}")
        elif event["role"] == "search":
            words.append("diverged")
        words.append(duration(event["seconds"]))
        left = self._left(state)
        return ", ".join(words) + (f"; about {duration(left)} left" if left else "")

    def _left(self, state: StudyState) -> float:
        """Seconds of what is known to be left, from runs of the same role."""
        left = 0.0
        for task in state.due.ready:
            known = self.seconds.get(task.role) or [0.0]
            left += sum(known) / len(known)
        return left / self.workers


class _Crew:
    """Worker processes and what they tell."""

    def __init__(self, arguments: list[str], threads: int, log: Path) -> None:
        self._arguments = arguments
        self._log = log
        self._threads = threads
        self._workers: list[subprocess.Popen[str]] = []
        self._told: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
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
        threads = str(self._threads)
        env = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        env["TOKENIZERS_PARALLELISM"] = "false"
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

    def events(self, count: int, deadline: float | None) -> Iterator[Mapping[str, Any]]:
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


def parse_budget(text: str) -> float:
    """Seconds of ``90s``, ``10m``, ``2h``, ``1h30m`` or a plain number of seconds.

    Raises:
        ConfigError: it is none of these.
    """
    found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text)
    if not text or found is None or not any(found.groups()):
        raise ConfigError(f"--budget {text}: write a time, as in 90s, 10m, 2h or 1h30m.")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds
