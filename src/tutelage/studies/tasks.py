"""The runs of a study, and which of them can be done now: decided from the results alone.

Whoever reads the same results decides the same, so that any number of workers, killed or not, make
the same table.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tutelage.curriculum.options import CurriculumOptions
from tutelage.proofs import fingerprint
from tutelage.recipe import load_recipe
from tutelage.studies.cells import Cell
from tutelage.studies.due import Due, Task
from tutelage.studies.load import LoadedStudy
from tutelage.studies.results import Result
from tutelage.studies.sampler import Asking, next_count
from tutelage.studies.search import going_on, ranking, rung_steps

PILOT_PART = 10
"""A pilot makes one part in so many of the updates."""

PILOT_LEAST = 8
COSTLESS = {
    "loss.distill_temperature",
    "training.learning_rate",
    "training.lr_schedule",
    "training.max_grad_norm",
    "training.min_lr_ratio",
    "training.warmup_ratio",
    "training.weight_decay",
}
"""Settings that change numbers and not how much is computed."""

MOST_STAGES = CurriculumOptions.stages
"""Of a recipe that does not say how many."""


class Planner:
    """Says what is due.

    Args:
        loaded: the study.

    Attributes:
        tasks: all that were ever due, by name of their result.
    """

    def __init__(self, loaded: LoadedStudy) -> None:
        self.loaded = loaded
        self._tasks: dict[tuple[Any, ...], Task] = {}
        self.tasks: dict[str, Task] = {}
        self._recipes: dict[tuple[Any, ...], dict[str, Any]] = {}

    def due(self, results: Mapping[str, Result]) -> Due:
        """What is to be done when these results are there, by name."""
        due = Due()
        races = self._races()
        for cells in races:
            chosen = self._race(cells, results, due)
            if chosen is None:
                due.open = True
                continue
            for cell in chosen:
                due.chosen[cell.name] = cell
                for seeds in self.loaded.study.seeds.all:
                    self._final(cell, dict(seeds), results, due)
        return due

    def _races(self) -> list[list[Cell]]:
        """Cells whose trials are compared with each other: one by one, or all arms together."""
        search, cells = self.loaded.study.search, self.loaded.cells
        if search is None or not search.across_arms:
            return [[cell] for cell in cells]
        found: dict[tuple[str, ...], list[Cell]] = {}
        for cell in cells:
            found.setdefault(tuple(level.label for level in cell.levels), []).append(cell)
        return list(found.values())

    # ---- how many updates -------------------------------------------------------------------

    def _updates(self, cell: Cell, results: Mapping[str, Result], due: Due) -> int | None:
        """Updates of a cell's runs; None while that is not known, and its task is put in."""
        equal = self.loaded.study.equal
        if equal.by == "updates":
            return equal.updates
        control = self.loaded.samples(self.loaded.control_of(cell))[0]
        cell = self._costs_as(cell)
        if cell.trial == control.trial:
            return equal.updates
        if equal.by == "seconds":
            found = self._piloted(cell, control, results, due)
        else:
            own = self._priced(control, None, results, due)
            if own is None or own.ledger is None:
                return None
            found = self._priced(cell, own.ledger.amount(equal.by), results, due)
        return None if found is None or found.value is None else int(found.value)

    def _costs_as(self, cell: Cell) -> Cell:
        """A cell whose updates cost the same: what is tuned may change numbers and no work."""
        tuned = {key for level in cell.tuned for key, _ in level.changes}
        return self.loaded.samples(cell.alone())[0] if tuned <= COSTLESS else cell

    def _priced(
        self, cell: Cell, amount: float | None, results: Mapping[str, Result], due: Due
    ) -> Result | None:
        over = {"curriculum.total_steps": self.loaded.study.equal.updates}
        task = self._task("price", cell, self._first_seeds(), over, amount=amount)
        return self._known(task, results, due)

    def _piloted(
        self, cell: Cell, control: Cell, results: Mapping[str, Result], due: Due
    ) -> Result | None:
        seeds, amount = self._first_seeds(), float(self.loaded.study.equal.updates)
        beside = self._recipe(control, seeds, self._pilot(control))
        over = self._pilot(cell)
        task = self._task("pilot", cell, seeds, over, amount=amount, beside=beside)
        return self._known(task, results, due)

    def _pilot(self, cell: Cell) -> dict[str, Any]:
        """What makes a run of a cell a pilot."""
        updates = self.loaded.study.equal.updates
        # Every stage needs an update.
        stages = self._plain(cell).get("curriculum", {}).get("stages", MOST_STAGES)
        most = max(PILOT_LEAST, updates // PILOT_PART, stages)
        return {"curriculum.total_steps": min(updates, most)}

    def _first_seeds(self) -> dict[str, int]:
        """What prices and pilots are of."""
        study = self.loaded.study
        seeds = dict(study.seeds.all[0])
        return seeds if study.search is None else {**seeds, "student": study.search.seeds[0]}

    # ---- the search -------------------------------------------------------------------------

    def _race(
        self, cells: Sequence[Cell], results: Mapping[str, Result], due: Due
    ) -> list[Cell] | None:
        """What the search chooses for some cells; None while it is not decided."""
        search = self.loaded.study.search
        tried = [self._trials(cell, results, due) for cell in cells]
        if any(one is None for one in tried):
            return None
        trials = [trial for one in tried for trial in one or ()]
        updates = [self._updates(trial, results, due) for trial in trials]
        if any(count is None for count in updates):
            return None
        if search is None:
            return list(trials)
        seeds = self._search_seeds()
        ladders = [rung_steps(int(n or 0), search.rungs, search.keep) for n in updates]
        running = list(range(len(trials)))
        reached: dict[int, tuple[int, float]] = {}
        for rung in range(max(map(len, ladders))):
            values = []
            for place in running:
                ladder = ladders[place]
                step = ladder[min(rung, len(ladder) - 1)]
                ask = (trials[place], int(updates[place] or 0), ladder[0], step)
                values.append(self._rung_value(ask, seeds, results, due))
            if any(value is None for value in values):
                return None
            known = [float(value or 0.0) for value in values]
            for place, value in zip(running, known, strict=True):
                reached[place] = (rung, value)
            if rung < max(map(len, ladders)) - 1:
                staying = {running[i] for i in going_on(known, search.keep, search.least)}
                stopped = [place for place in running if place not in staying]
                running = [place for place in running if place in staying]
                due.losers += self._keys(trials, updates, ladders, stopped, seeds)
        due.losers += self._keys(trials, updates, ladders, running, seeds)
        return self._winners(cells, trials, running, known, reached)

    def _trials(self, cell: Cell, results: Mapping[str, Result], due: Due) -> list[Cell] | None:
        """What the search tries for a cell; None while its sampler has not asked for all of it.

        What a sampler asks for next follows from the first rung of what it asked for before: as in
        a grid, all trials come to the first rung, and the best of all go on.
        """
        search = self.loaded.study.search
        if search is None or not self.loaded.sampled(cell):
            return self.loaded.trials(cell)
        space = self.loaded.space(cell)
        told: list[tuple[Mapping[str, Any], float | None]] = []
        trials: list[Cell] = []
        while True:
            count = next_count(len(trials), search.trials)
            asking = Asking(space.plain, tuple(told), count, search.seeds[0])
            due.told[cell.name] = asking
            if not count:
                return list(dict.fromkeys(trials))
            result = self._known(self._question(cell, asking), results, due)
            if result is None:
                return None
            batch = [space.trial(cell, settings) for settings in result.asked]
            values = [self._first_value(trial, results, due) for trial in batch]
            trials += batch
            if any(value is None for value in values):
                return list(dict.fromkeys(trials)) if len(trials) == search.trials else None
            for settings, value in zip(result.asked, values, strict=True):
                told.append((settings, value if math.isfinite(value or 0.0) else None))

    def _question(self, cell: Cell, asking: Asking) -> Task:
        seeds = {"student": asking.seed}
        key = "-".join([*_words("ask", cell, seeds), asking.key[:10]])
        return Task("ask", cell, seeds, {}, key, asking=asking)

    def _first_value(self, trial: Cell, results: Mapping[str, Result], due: Due) -> float | None:
        """What a trial is worth at its first rung; None while that is not known."""
        search, updates = self.loaded.study.search, self._updates(trial, results, due)
        assert search is not None
        if updates is None:
            return None
        first = rung_steps(updates, search.rungs, search.keep)[0]
        ask = (trial, updates, first, first)
        return self._rung_value(ask, self._search_seeds(), results, due)

    def _search_seeds(self) -> list[dict[str, int]]:
        search = self.loaded.study.search
        assert search is not None
        return [{**dict(self.loaded.study.seeds.all[0]), "student": s} for s in search.seeds]

    def _winners(
        self,
        cells: Sequence[Cell],
        trials: Sequence[Cell],
        running: Sequence[int],
        values: Sequence[float],
        reached: Mapping[int, tuple[int, float]],
    ) -> list[Cell]:
        """The best trial; where arms raced each other, the control's best one beside it."""
        best = trials[running[ranking(values)[0]]]
        control = self.loaded.control_of(cells[0])
        if len(cells) == 1 or best.arm == control.arm:
            return [best]
        own = [place for place, trial in enumerate(trials) if trial.arm == control.arm]
        # Who came further is better; on the same rung the value tells.
        first = max(own, key=lambda place: (*reached[place], -place))
        return [trials[first], best]

    def _rung_value(
        self,
        ask: tuple[Cell, int, int, int],
        seeds: Sequence[Mapping[str, int]],
        results: Mapping[str, Result],
        due: Due,
    ) -> float | None:
        """The mean over the search's seeds; a run that failed is worse than any other."""
        trial, updates, every, step = ask
        found = [
            self._known(self._search_task(trial, one, updates, every, step), results, due)
            for one in seeds
        ]
        if any(result is None for result in found):
            return None
        values = [result.value for result in found if result is not None]
        return sum(float("-inf") if value is None else value for value in values) / len(values)

    def _search_task(
        self, trial: Cell, seeds: Mapping[str, int], updates: int, every: int, step: int
    ) -> Task:
        search = self.loaded.study.search
        assert search is not None
        over = {"curriculum.total_steps": updates, "selection.metric": search.measure}
        over |= {"selection.every": every, "selection.keep": self._keep(trial)}
        if search.limit is not None:
            over["selection.limit"] = search.limit
        return self._task("search", trial, seeds, over, until=step)

    def _keys(
        self,
        trials: Sequence[Cell],
        updates: Sequence[int | None],
        ladders: Sequence[Sequence[int]],
        places: Sequence[int],
        seeds: Sequence[Mapping[str, int]],
    ) -> list[str]:
        return [
            self._search_task(trials[p], one, int(updates[p] or 0), ladders[p][0], 0).key
            for p in places
            for one in seeds
        ]

    def _keep(self, cell: Cell) -> str:
        """Whether the arm's own runs keep their best checkpoint."""
        selection = self._plain(cell).get("selection") or {}
        return selection.get("keep", "best") if selection.get("metric") else "last"

    def _plain(self, cell: Cell) -> dict[str, Any]:
        return self._recipe(cell.alone(), dict(self.loaded.study.seeds.all[0]), {})

    # ---- the final runs ---------------------------------------------------------------------

    def _final(
        self, cell: Cell, seeds: Mapping[str, int], results: Mapping[str, Result], due: Due
    ) -> None:
        study = self.loaded.study
        updates = self._updates(cell, results, due)
        if updates is None:
            due.open = True
            return
        over: dict[str, Any] = {"curriculum.total_steps": updates}
        if study.curve:
            over["selection.every"] = max(1, updates // study.curve)
            if not (self._plain(cell).get("selection") or {}).get("metric"):
                over |= {"selection.metric": study.curve_measure, "selection.keep": "last"}
        self._known(self._task("final", cell, seeds, over), results, due)

    def _known(self, task: Task, results: Mapping[str, Result], due: Due) -> Result | None:
        self.tasks[task.result] = task
        if task.result not in due.wanted:
            due.wanted.append(task.result)
            if task.result not in results:
                due.ready.append(task)
        return results.get(task.result)

    def _task(
        self,
        role: str,
        cell: Cell,
        seeds: Mapping[str, int],
        over: Mapping[str, Any],
        *,
        until: int | None = None,
        amount: float | None = None,
        beside: Mapping[str, Any] | None = None,
    ) -> Task:
        asked = (role, cell, tuple(seeds.items()), tuple(over.items()), until, amount)
        if asked not in self._tasks:
            recipe = self._recipe(cell, seeds, over)
            # What changes no result (where folders are, how often is logged) changes no key.
            same = load_recipe(recipe).fingerprint
            facts: dict[str, Any] = {"role": role, "recipe": same, "amount": amount}
            if beside is not None:
                facts["beside"] = load_recipe(beside).fingerprint
            key = "-".join([*_words(role, cell, seeds), fingerprint(facts)[:10]])
            self._tasks[asked] = Task(role, cell, seeds, recipe, key, until, amount, beside)
        return self._tasks[asked]

    def _recipe(
        self, cell: Cell, seeds: Mapping[str, int], over: Mapping[str, Any]
    ) -> dict[str, Any]:
        asked = (cell, tuple(seeds.items()), tuple(over.items()))
        if asked not in self._recipes:
            self._recipes[asked] = self.loaded.recipe(cell, seeds, over)
        return self._recipes[asked]


def _words(role: str, cell: Cell, seeds: Mapping[str, int]) -> Iterator[str]:
    """What a folder's name says of its run, short enough for any file system."""
    if role != "final":
        yield role
    name = re.sub(r"[^A-Za-z0-9._+]+", "_", cell.trial).strip("_")
    yield (
        name if len(name) <= 60 else f"{name[:50]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    )
    yield f"s{seeds['student']}"
