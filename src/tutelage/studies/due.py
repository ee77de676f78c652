"""Pieces of work of a study, and what is known of which are to be done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tutelage.studies.cells import Cell
from tutelage.studies.sampler import Asking


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes:
        role: price, pilot, ask, search or final.
        cell: what is run.
        seeds: by job.
        recipe: of the run.
        key: names the run's folder.
        until: the update that a rung ends after; None for the end.
        amount: of a price: what may be spent, None for the control's own; of a pilot: updates of
            the control that it may cost as much as.
        beside: recipe of the control's pilot, which is run just before a pilot: what else a machine
            does, and how many workers it has, then counts for both.
        asking: what a sampler is asked.
    """

    role: str
    cell: Cell
    seeds: Mapping[str, int]
    recipe: Mapping[str, Any] = field(repr=False, compare=False)
    key: str
    until: int | None = None
    amount: float | None = None
    beside: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)
    asking: Asking | None = None

    @property
    def result(self) -> str:
        """Name of its result."""
        return self.key if self.until is None else f"{self.key}@{self.until}"

    @property
    def title(self) -> str:
        """What to call it in a line."""
        if self.asking is not None:
            first, count = len(self.asking.told) + 1, self.asking.count
            return f"{self.cell.name}: optuna asks for settings {first} to {first + count - 1}"
        seeds = ", ".join(
            f"seed {seed}" if name == "student" else f"{name} seed {seed}"
            for name, seed in self.seeds.items()
        )
        ending = "" if self.until is None else f", up to update {self.until}"
        return f"{self.cell.trial}, {seeds}{ending}"


@dataclass
class Due:
    """What is to be done.

    Attributes:
        ready: tasks that can be done now, in order.
        wanted: names of all results that are known to be needed, there or not.
        open: whether more will be known when the ready ones are done.
        chosen: by name of a cell what the search chose for it.
        losers: keys of runs that the search stopped, whose folders nobody needs.
        told: by name of a cell what its sampler knows.
    """

    ready: list[Task] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)
    open: bool = False
    chosen: dict[str, Cell] = field(default_factory=dict)
    losers: list[str] = field(default_factory=list)
    told: dict[str, Asking] = field(default_factory=dict)
