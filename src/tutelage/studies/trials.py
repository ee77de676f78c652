"""What the search of a study tried, how far each trial came, and what was chosen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tutelage.studies.cells import Cell
from tutelage.studies.load import LoadedStudy
from tutelage.studies.results import Result

Settings = tuple[tuple[str, str], ...]
"""Factors and labels of what is tuned."""


@dataclass(frozen=True)
class Trial:
    """One setting that was tried for a cell.

    Attributes:
        settings: as people read them.
        rungs: updates and value of each rung that it came to; None for a run that diverged.
        updates: that its runs made, all seeds together.
        whole: that they would have made to their end.
        chosen: whether the final runs have these settings.
    """

    settings: str
    rungs: tuple[tuple[int, float | None], ...]
    updates: int
    whole: int
    chosen: bool


@dataclass(frozen=True)
class Race:
    """The trials of a cell, those that came furthest first.

    Attributes:
        cell: its name.
        measure: what decides.
        trials: at least one.
    """

    cell: str
    measure: str
    trials: tuple[Trial, ...]

    @property
    def updates(self) -> int:
        """That all trials made."""
        return sum(trial.updates for trial in self.trials)

    @property
    def whole(self) -> int:
        """That they would have made if none had been stopped."""
        return sum(trial.whole for trial in self.trials)


def races_of(
    loaded: LoadedStudy, results: Sequence[Result], finals: Mapping[str, Sequence[Result]]
) -> tuple[Race, ...]:
    """What the search tried for each cell so far; empty without a search.

    Args:
        loaded: the study.
        results: of any role; those of other trials than the study has now count nothing.
        finals: the final runs by cell.
    """
    search = loaded.study.search
    if search is None:
        return ()
    found: dict[tuple[str, Settings], list[Result]] = {}
    for result in results:
        if result.role == "search" and result.seeds.get("student") in search.seeds:
            found.setdefault((result.cell, tuple(result.tuned.items())), []).append(result)
    races = []
    for cell in loaded.cells:
        trials = []
        for tuned in _settings(loaded, cell, found):
            runs = found.get((cell.name, tuned))
            if runs:
                chosen = any(tuple(one.tuned.items()) == tuned for one in finals[cell.name])
                trials.append(_trial(settings_text(dict(tuned)), runs, chosen))
        if trials:
            # The longest first, of equally long ones the best; one that diverged comes last.
            trials.sort(key=lambda one: (-one.rungs[-1][0], -_worth(one.rungs[-1][1])))
            races.append(Race(cell.name, search.measure, tuple(trials)))
    return tuple(races)


def _settings(
    loaded: LoadedStudy, cell: Cell, found: Iterable[tuple[str, Settings]]
) -> list[Settings]:
    """What may have been tried for a cell; where a sampler chooses, what has been."""
    if loaded.sampled(cell):
        return [settings for name, settings in found if name == cell.name]
    return [
        tuple((level.factor, level.label) for level in trial.tuned) for trial in loaded.trials(cell)
    ]


def settings_text(tuned: Mapping[str, str]) -> str:
    """What was tuned, as people read it."""
    return ", ".join(f"{name.rpartition('.')[2]} {label}" for name, label in tuned.items())


def _worth(value: float | None) -> float:
    return float("-inf") if value is None else value


def _trial(settings: str, runs: Sequence[Result], chosen: bool) -> Trial:
    rungs = []
    for step in sorted({run.steps for run in runs}):
        values = [run.value for run in runs if run.steps == step]
        known = [value for value in values if value is not None]
        rungs.append((step, float(np.mean(known)) if len(known) == len(values) else None))
    seeds = {tuple(run.seeds.items()) for run in runs}
    made = sum(max(r.steps for r in runs if tuple(r.seeds.items()) == one) for one in seeds)
    # A run that diverged does not say how long it would have been.
    whole = max(max(run.total_steps, run.steps) for run in runs) * len(seeds)
    return Trial(settings or "as it is", tuple(rungs), made, whole, chosen)
