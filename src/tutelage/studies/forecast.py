"""What a study will do and cost, said before it is done."""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.studies.cells import Cell
from tutelage.studies.load import LoadedStudy
from tutelage.studies.search import search_updates
from tutelage.studies.watch import StudyState
from tutelage.types import Ledger


@dataclass(frozen=True)
class Expected:
    """What is expected of one cell.

    Attributes:
        cell: its name.
        trials: settings that the search tries.
        search: what these cost, in whole runs.
        final: final runs.
        there: results that are there.
        ledger: what one run costs; None where that is known only when teachers have written texts.
        seconds: of one run, estimated; None when that is not known.
    """

    cell: str
    trials: int
    search: float
    final: int
    there: int
    ledger: Ledger | None
    seconds: float | None

    @property
    def runs(self) -> float:
        """All of it in whole runs."""
        return self.search + self.final


def expect(state: StudyState) -> list[Expected]:
    """What every cell of a study will do; difficulty is measured for it, as the study would.

    Where arms race each other, what the race costs is shared out among them alike, and final runs
    are counted for every arm though two will have them.
    """
    loaded = state.loaded
    found = []
    for cell in loaded.cells:
        ledger, seconds = _price(loaded, cell)
        trials = loaded.num_trials(cell) if loaded.study.search is not None else 0
        found.append(
            Expected(
                cell=cell.name,
                trials=trials,
                search=_search_runs(loaded, cell, trials),
                final=len(loaded.study.seeds.all),
                there=sum(one.cell == cell.name for one in state.results.values()),
                ledger=ledger,
                seconds=seconds,
            )
        )
    return found


def _search_runs(loaded: LoadedStudy, cell: Cell, trials: int) -> float:
    """Whole runs that the search of a cell is worth."""
    search, updates = loaded.study.search, loaded.study.equal.updates
    if search is None:
        return 0.0
    every = sum(loaded.num_trials(one) for one in loaded.cells if one.levels == cell.levels)
    racing = every if search.across_arms else trials
    made = search_updates(updates, racing, search.rungs, search.keep, search.least)
    return made / updates * len(search.seeds) * trials / racing


def _price(loaded: LoadedStudy, cell: Cell) -> tuple[Ledger | None, float | None]:
    from tutelage.pipeline.trial import estimate

    trial = loaded.samples(cell)[0]
    seeds = dict(loaded.study.seeds.all[0])
    over = {"curriculum.total_steps": loaded.study.equal.updates}
    folder = loaded.folder / "dry-run"
    try:
        return estimate(loaded.recipe(trial, seeds, over), folder)
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


def total_seconds(expected: Sequence[Expected]) -> float | None:
    """Of the whole study with one worker; None when no cell's is known."""
    known = [one for one in expected if one.seconds is not None]
    if not known:
        return None
    mean = sum(float(one.seconds or 0) for one in known) / len(known)
    return sum((one.seconds or mean) * one.runs for one in expected)
