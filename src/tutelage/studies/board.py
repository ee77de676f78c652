"""The folder of a study: its results so far, who works on what, and what failed."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tutelage.files import atomic_write_json, atomic_write_text, read_json_or, remove_directory
from tutelage.locks import claimed
from tutelage.studies.results import Result, read_result, write_result

RESULTS = "results"
RUNS = "runs"
CLAIMS = ".claims"
FAILED = "failed"


class Board:
    """What the workers of a study share: files in one folder, and nothing else.

    Args:
        path: the folder of the study.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Result] = {}

    def results(self) -> dict[str, Result]:
        """All results by name; a file that was read stays as it is."""
        folder = self.path / RESULTS
        names = {path.stem: path for path in folder.glob("*.json")} if folder.is_dir() else {}
        self._known = {name: known for name, known in self._known.items() if name in names}
        for name, path in sorted(names.items()):
            if name not in self._known:
                result = read_result(path)
                if result is not None:  # a damaged one is made again
                    self._known[name] = result
        return dict(self._known)

    def has(self, name: str) -> bool:
        """Whether a result is there and whole."""
        return read_result(self.path / RESULTS / f"{name}.json") is not None

    def write(self, name: str, result: Result) -> None:
        """Put a result there; what failed before is forgotten."""
        write_result(self.path / RESULTS / f"{name}.json", result)
        (self.path / FAILED / f"{name}.json").unlink(missing_ok=True)

    def run_folder(self, key: str) -> Path:
        """Where a run is."""
        return self.path / RUNS / key

    def failures(self) -> dict[str, dict[str, Any]]:
        """What failed, by name of the result: ``title`` and ``why``."""
        found = {}
        for path in sorted((self.path / FAILED).glob("*.json")):
            record = read_json_or(path, {})
            if record:
                found[path.stem] = record
        return found

    def fail(self, name: str, title: str, why: str) -> None:
        """Note that a run cannot be made."""
        (self.path / FAILED).mkdir(parents=True, exist_ok=True)
        atomic_write_json(self.path / FAILED / f"{name}.json", {"title": title, "why": why})

    def forget_failures(self) -> None:
        """Let what failed be tried again; one by one, as others may be noting theirs."""
        for path in (self.path / FAILED).glob("*.json"):
            path.unlink(missing_ok=True)

    def claim(self, key: str) -> AbstractContextManager[bool]:
        """Whether a run is this worker's for the block; it ends with the process."""
        return claimed(self.path / CLAIMS / f"{key}.lock")

    def drop_run(self, key: str) -> None:
        """Remove the folder of a run that nobody needs any more, unless somebody is at it."""
        folder = self.run_folder(key)
        if folder.is_dir():
            with self.claim(key) as mine:
                if mine:
                    remove_directory(folder)

    def keep_text(self, name: str, text: str) -> None:
        """Write a file of the study's folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        atomic_write_text(self.path / name, text)
