"""A study while it goes on: which of its runs are done, which are made, and what failed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.errors import TutelageError
from tutelage.files import read_json_or
from tutelage.report.live import STARTED, LiveReader, LiveRun
from tutelage.report.page_tables import Cell, Row, View
from tutelage.report.quantities import MISSING, count, duration

STUDY = "study.yaml"
"""What makes a folder that of a study."""


@dataclass(frozen=True)
class LiveStudy:
    """A study as it is at one moment.

    Attributes:
        folder: of the study.
        name: of the study.
        runs: by name, as far as they were begun.
        results: names of the results that are there.
        failed: what failed, by name: why.
    """

    folder: Path
    name: str
    runs: Mapping[str, LiveRun]
    results: tuple[str, ...]
    failed: Mapping[str, str]

    @property
    def state(self) -> str:
        """``running`` while one of its runs is, else ``not running``."""
        at_work = any(run.state in ("running", "stalled") for run in self.runs.values())
        return "running" if at_work else "not running"

    @property
    def stage(self) -> str:
        """How much there is, which is what a line is printed for."""
        return f"{count(len(self.results))} result{'' if len(self.results) == 1 else 's'}"

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more; what is still due only the study itself knows."""
        return False

    @property
    def line(self) -> str:
        """Where it is, on one line."""
        working = [name for name, run in self.runs.items() if run.state == "running"]
        words = [f"{self.name}: {self.state}", self.stage]
        words += [f"{count(len(self.failed))} failed"] if self.failed else []
        words += [f"at work: {', '.join(working)}"] if working else []
        return ", ".join(words)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "folder": str(self.folder),
            "name": self.name,
            "state": self.state,
            "results": list(self.results),
            "failed": dict(self.failed),
            "runs": {name: run.as_dict() for name, run in self.runs.items()},
        }

    def view(self) -> View | None:
        """The runs in a table; None before there is one."""
        rows = []
        for name in dict.fromkeys([*self.runs, *self.results, *self.failed]):
            run = self.runs.get(name)
            state = "failed" if name in self.failed else run.state if run else ""
            state = "done" if name in self.results else state
            arm = next((arm for arm in run.arms if arm.metrics), None) if run else None
            steps = f"{count(arm.step)} of {count(arm.planned)}" if arm else MISSING
            cells = (
                Cell(state, self.failed.get(name, "")[:120]),
                Cell(run.stage if run and run.stage else MISSING),
                Cell(steps),
                Cell(duration(run.spent) if run and run.spent else MISSING),
            )
            rows.append(Row(name, cells))
        headers = ("run", "state", "doing", "steps", "time")
        return View("Runs and results of the study so far", headers, tuple(rows)) if rows else None


class StudyReader:
    """Looks at the folder of a study again and again.

    Args:
        folder: with ``study.yaml``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._readers: dict[str, LiveReader] = {}

    def look(self) -> LiveStudy:
        """The study as it is now."""
        runs = {}
        for path in sorted(self.folder.glob("runs/*")):
            try:
                if (path / STARTED).is_file():
                    reader = self._readers.setdefault(path.name, LiveReader(path))
                    runs[path.name] = reader.look()
            except (TutelageError, OSError):  # removed meanwhile: studies do not keep all runs
                continue
        results = tuple(sorted(path.stem for path in self.folder.glob("results/*.json")))
        failed = {
            path.stem: str(read_json_or(path, {}).get("why") or "")
            for path in sorted(self.folder.glob("failed/*.json"))
        }
        return LiveStudy(self.folder, self.folder.name, runs, results, failed)
