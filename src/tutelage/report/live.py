"""A run while it goes on, read from what it writes: no lock is taken, and a torn line is no error.

Nothing here is held against checksums: what is shown is a look at work in progress, and the report
of the finished run is the record.
"""

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tutelage.curriculum import plan_folder
from tutelage.errors import RunFolderError
from tutelage.files import read_json_or
from tutelage.report.quantities import count, duration
from tutelage.report.running import Process, process_of
from tutelage.report.timing import ArmTime, seconds_left

LIVE_NAME = "live.html"
"""The page, in the run folder."""

STARTED = "recipe.json"
STOPPED = "stopped.json"
CLOCK = "seconds.json"
COST = "cost.json"
"""What a run writes beside its parts; see docs/runs.md."""

STALLED_AFTER = 300.0
"""Seconds without any record after which a run that is held by a process counts as stalled."""

_FRESH = 20.0
"""Seconds for which a record says that somebody works, where no process is seen here."""

_STEPS_OF_SILENCE = 20
"""A run whose steps are long is stalled after so many times as long as one takes."""


class Tail:
    """The rows of a JSON Lines file that grows, of which only the new ones are read each time.

    A last line without its end is left for the next look; a file that was replaced, or has become
    shorter, is read from its start.

    Args:
        path: the file, there or not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._end = 0
        self._rows: dict[int, dict[str, Any]] = {}

    def rows(self) -> list[dict[str, Any]]:
        """All rows ascending by step; of a step that was done twice the later row."""
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            found = os.fstat(file.fileno())
            if (found.st_dev, found.st_ino) != self._file or found.st_size < self._end:
                self._file, self._end, self._rows = (found.st_dev, found.st_ino), 0, {}
            file.seek(self._end)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._end += len(line)
                self._keep(line)
            return [self._rows[step] for step in sorted(self._rows)]
        self._file, self._end, self._rows = None, 0, {}
        return []

    def _keep(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                self._rows[row["step"]] = row


@dataclass(frozen=True)
class LiveArm:
    """How far an arm is.

    Attributes:
        name: of the arm.
        planned: optimizer steps of its plan; None before it is made.
        stages: number of stages of its plan.
        metrics: its records so far, ascending by step.
        validation: its validations so far.
        state: ``waiting``, ``training``, ``trained`` or ``evaluated``.
    """

    name: str
    planned: int | None
    stages: int
    metrics: Sequence[Mapping[str, Any]]
    validation: Sequence[Mapping[str, Any]]
    state: str

    @property
    def step(self) -> int:
        """The last step that was recorded."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def tokens_per_second(self) -> float | None:
        """Response tokens learned a second, over the last ten records; None before there are two.

        Records say tokens as a mean over the steps since the one before.
        """
        rows = self.metrics[-11:]
        if len(rows) < 2:
            return None
        tokens = sum(
            (row["step"] - before["step"]) * float(row.get("response_tokens") or 0)
            for before, row in pairwise(rows)
        )
        seconds = float(rows[-1].get("seconds") or 0) - float(rows[0].get("seconds") or 0)
        return tokens / seconds if seconds > 0 and tokens else None


@dataclass(frozen=True)
class LiveRun:
    """A run as it is at one moment.

    Attributes:
        folder: the run folder, there or not.
        name: of the recipe, or of the folder.
        title: of the run, or its name.
        state: ``not started``, ``running``, ``stalled``, ``killed``, ``interrupted``, ``failed``,
            ``finished``, or ``not running`` (what `tutelage plan` and the like leave).
        message: more about the state, in words; of a failed run what it said.
        stage: what it is doing, or was when it ended; empty when it is not known.
        quiet_for: seconds since its last sign of life; None before the first.
        spent: seconds of work so far, of all stages.
        left: seconds that are left, estimated; None when nothing is known about it, or it is over.
        arms: in the order of the recipe, as far as their plans are there.
        memory: of the process in bytes, now and at most; empty when it is not known.
        gpu_memory: bytes that the process holds on GPUs; None without one.
    """

    folder: Path
    name: str
    state: str
    title: str = ""
    message: str = ""
    stage: str = ""
    quiet_for: float | None = None
    spent: float = 0.0
    left: float | None = None
    arms: Sequence[LiveArm] = ()
    memory: tuple[int, ...] = ()
    gpu_memory: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state == "finished"

    @property
    def line(self) -> str:
        """Where it is, on one line."""
        words = [f"{self.name}: {self.state}"]
        if self.state == "running":
            words.append(self.doing)
            words += [] if self.left is None else [f"about {duration(self.left)} left"]
        elif self.message:
            words.append(self.message)
        return ", ".join(words)

    @property
    def doing(self) -> str:
        """What the run is doing: the stage, and how far it is in a training."""
        text = self.stage or "preparing"
        arm = self.training
        if arm is None or not arm.planned:
            return text
        text += f": step {count(arm.step)} of {count(arm.planned)}"
        if arm.metrics and arm.metrics[-1].get("stage") and arm.stages > 1:
            text += f", stage {arm.metrics[-1]['stage']} of {arm.stages} of its plan"
        return text

    @property
    def training(self) -> LiveArm | None:
        """The arm that is being trained; None where that is not what the run is doing."""
        return next((arm for arm in self.arms if self.stage == f"training {arm.name}"), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``: the last record and validation of each arm, not all."""
        return {
            "folder": str(self.folder),
            "name": self.name,
            "state": self.state,
            "message": self.message,
            "stage": self.stage,
            "quiet_for": self.quiet_for,
            "seconds": self.spent,
            "seconds_left": self.left,
            "memory_bytes": self.memory[0] if self.memory else None,
            "peak_memory_bytes": self.memory[-1] if self.memory else None,
            "gpu_memory_bytes": self.gpu_memory,
            "arms": [
                {
                    "name": arm.name,
                    "state": arm.state,
                    "step": arm.step,
                    "planned": arm.planned,
                    "tokens_per_second": arm.tokens_per_second,
                    "last": dict(arm.metrics[-1]) if arm.metrics else None,
                    "validation": dict(arm.validation[-1]) if arm.validation else None,
                }
                for arm in self.arms
            ],
        }


class LiveReader:
    """Looks at a run folder again and again; logs are read on from where the last look ended.

    Args:
        folder: the run folder; it may come later.

    Raises:
        RunFolderError: it is there and is no folder, or none of a run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._tails: dict[Path, Tail] = {}
        self._named: tuple[str, str] | None = None
        if self.folder.exists() and not (self.folder / STARTED).is_file() and not self._is_new():
            raise RunFolderError(
                f"'{folder}' is no run folder, so there is nothing to watch. Give the folder that"
                " `tutelage run` names in its first line, or one that it is going to make"
                " (--run-dir)."
            )

    def _is_new(self) -> bool:
        """Whether a run may still be made here: an empty folder, or one that was just opened."""
        return self.folder.is_dir() and all(
            path.name.startswith(".") or path.name == "recipe.yaml"
            for path in self.folder.iterdir()
        )

    def look(self) -> LiveRun:
        """The run as it is now."""
        if not (self.folder / STARTED).is_file():
            text = "There is no run in this folder yet; this page will show it when it begins."
            return LiveRun(self.folder, self.folder.name, "not started", message=text)
        clock = read_json_or(self.folder / CLOCK, {})
        info = read_json_or(self.folder / "run.json", {})
        process, quiet = process_of(self.folder), self._quiet_for()
        arms = self._arms(info)
        state, message = self._state(clock, info, process, quiet, arms)
        seconds = {str(k): float(v) for k, v in (clock.get("seconds") or {}).items()}
        running = clock.get("running") or {}
        if running and quiet is not None:
            now = time.time() - quiet
            seconds[running["stage"]] = seconds.get(running["stage"], 0.0) + max(
                0.0, now - running["since"]
            )
        name, title = self._names()
        active = state in ("running", "stalled")
        return LiveRun(
            folder=self.folder,
            name=name,
            state=state,
            title=title,
            message=message,
            stage=str(running.get("stage") or ""),
            quiet_for=quiet,
            spent=sum(seconds.values()),
            left=self._left(arms, seconds) if active else None,
            arms=arms,
            memory=process.memory if process else (),
            gpu_memory=process.gpu_memory if process else None,
        )

    def _names(self) -> tuple[str, str]:
        """Name and title as the recipe has them; those of the folder where it cannot be read."""
        if self._named is None:
            with contextlib.suppress(OSError, yaml.YAMLError, ValueError):
                text = (self.folder / "recipe.yaml").read_text(encoding="utf-8")
                recipe = yaml.safe_load(text)
                if isinstance(recipe, dict):
                    name = str(recipe.get("name") or self.folder.name)
                    self._named = (name, str(recipe.get("title") or name))
        return self._named or (self.folder.name, self.folder.name)

    def _quiet_for(self) -> float | None:
        """Seconds since the last sign of life: the clock's, or the newest record's."""
        times = []
        for path in (self.folder / CLOCK, *self.folder.glob("arms/*/*.jsonl")):
            with contextlib.suppress(OSError):
                times.append(path.stat().st_mtime)
        return max(0.0, time.time() - max(times)) if times else None

    def _state(
        self,
        clock: Mapping[str, Any],
        info: Mapping[str, Any],
        process: Process | None,
        quiet: float | None,
        arms: Sequence[LiveArm],
    ) -> tuple[str, str]:
        stopped = read_json_or(self.folder / STOPPED, {})
        seen = process is not None or (quiet is not None and quiet < _FRESH and not stopped)
        if not clock.get("running") and info.get("finished") and process is None:
            return "finished", f"Finished on {info['finished']}."
        if seen and (process is not None or clock.get("running")):
            if quiet is not None and quiet > _patience(arms):
                return "stalled", (
                    "A process holds the run, and has written nothing for a long time. Look at its"
                    " terminal and at the machine's load and memory."
                )
            return "running", ""
        again = "The same `tutelage run` command goes on from the last checkpoint."
        if stopped:
            kind = "interrupted" if stopped.get("kind") == "interrupted" else "failed"
            said = str(stopped.get("message") or "")
            return kind, f"{said} {again}".strip() if kind == "interrupted" else said
        if clock.get("running"):
            return "killed", (
                f"Its process is gone without a word (killed, out of memory, or the machine was"
                f" switched off) in '{clock['running']['stage']}'. {again} If it runs on another"
                " machine, it has been silent there."
            )
        return "not running", f"Nothing is running here. {again}"

    def _arms(self, info: Mapping[str, Any]) -> list[LiveArm]:
        folders = [p for p in self.folder.glob("arms/*") if not p.name.startswith(".")]
        cost = read_json_or(self.folder / COST, {}).get("arms") or {}
        order = [str(name) for name in info.get("arms") or cost]
        folders.sort(key=lambda p: (order.index(p.name) if p.name in order else 99, p.name))
        return [self._arm(folder) for folder in folders]

    def _arm(self, folder: Path) -> LiveArm:
        plan = read_json_or(plan_folder(folder) / "plan.json", {})
        metrics = self._rows(folder / "metrics.jsonl")
        trained = (folder / "student").is_dir() and not (folder / "training").is_dir()
        evaluated = (folder / "evaluation" / "scores.json").is_file()
        state = "training" if metrics or (folder / "training").is_dir() else "waiting"
        state = ("evaluated" if evaluated else "trained") if trained else state
        return LiveArm(
            folder.name,
            int(plan["total_steps"]) if plan.get("total_steps") else None,
            len(plan.get("stages") or ()),
            metrics,
            self._rows(folder / "validation.jsonl"),
            state,
        )

    def _rows(self, path: Path) -> list[dict[str, Any]]:
        return self._tails.setdefault(path, Tail(path)).rows()

    def _left(self, arms: Sequence[LiveArm], seconds: Mapping[str, float]) -> float | None:
        costs = read_json_or(self.folder / COST, {}).get("arms") or {}
        before = self.folder / "references" / "student_before"
        asked = [read_json_or(p, {}).get("seconds") for p in before.glob("evaluation*/scores.json")]
        each = sum(float(one) for one in asked if one is not None)
        times = [
            ArmTime(
                planned=arm.planned,
                done=arm.state in ("trained", "evaluated"),
                steps=tuple(int(row["step"]) for row in arm.metrics),
                seconds=tuple(float(row.get("seconds") or 0) for row in arm.metrics),
                estimate=(costs.get(arm.name) or {}).get("seconds"),
                course=tuple((costs.get(arm.name) or {}).get("course") or ()),
                evaluation=0.0 if arm.state == "evaluated" else each,
            )
            for arm in arms
        ]
        return seconds_left(times)


def _patience(arms: Sequence[LiveArm]) -> float:
    """Seconds of silence that are usual: more where a step takes long."""
    rows = next((arm.metrics for arm in arms if arm.state == "training" and arm.metrics), ())
    if not rows:
        return STALLED_AFTER
    step = float(rows[-1].get("seconds") or 0) / max(int(rows[-1]["step"]), 1)
    return max(STALLED_AFTER, _STEPS_OF_SILENCE * step)
