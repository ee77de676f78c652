"""What a study has come to, looked at again and again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.studies.board import Board
from tutelage.studies.due import Due, Task
from tutelage.studies.load import LoadedStudy
from tutelage.studies.results import Result
from tutelage.studies.tasks import Planner


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

    @property
    def tasks(self) -> Mapping[str, Task]:
        """All tasks that were ever due, by name of their result."""
        return self._planner.tasks

    def look(self) -> StudyState:
        """What is there now, and what is still to be done."""
        results = self._board.results()
        due = self._planner.due(results)
        return StudyState(self._loaded, results, due, self._board.failures())


def state_of(loaded: LoadedStudy) -> StudyState:
    """What is there of a study, and what is still to be done."""
    return Watch(loaded).look()
