"""Which visits of a plan write a new answer, and which learn once more from one that is there."""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.types import Plan


@dataclass(frozen=True)
class ReusePlan:
    """For every visit of a plan, whose rollout it learns from. Shapes: M visits, S steps.

    Attributes:
        source: number of the visit that writes the rollout which a visit learns from: its own
            number where it writes one, -1 where its step is off-policy; shape ``[M]``.
        again: whether the rollout that a visit writes is learned from at a later step, shape
            ``[M]``.
        last_use: for each step, the last step at which a rollout of it is learned from; -1 for a
            step that writes none; shape ``[S]``.
    """

    source: NDArray[np.int64]
    again: NDArray[np.bool_]
    last_use: NDArray[np.int64]

    @property
    def num_written(self) -> int:
        """Rollouts that are written in all."""
        return int((self.source == np.arange(len(self.source))).sum())

    @property
    def num_learned(self) -> int:
        """Visits that learn from a rollout, a new one or one that is there."""
        return int((self.source >= 0).sum())

    def most_kept(self, plan: Plan) -> int:
        """Rollouts that are kept at once, at most: those of a step go together, with the last."""
        change = np.zeros(plan.total_steps + 1, dtype=np.int64)
        counts = np.add.reduceat(self.again, plan.offsets[:-1], dtype=np.int64)
        change[:-1] += counts
        written = np.flatnonzero(counts)
        np.subtract.at(change, self.last_use[written] + 1, counts[written])
        return int(np.cumsum(change).max())


def plan_reuse(
    plan: Plan, reuse: int = 1, max_age: int | None = None, most_kept: int | None = None
) -> ReusePlan:
    """Decide before a run which visits write: it depends on the plan alone.

    A visit of an on-policy step learns from the rollout that its example has, if that was written
    at an earlier step, not more than ``max_age`` steps before, was learned from fewer than
    ``reuse`` times, and has the same teacher; else it writes a new one, which takes its place.

    Args:
        plan: the plan.
        reuse: updates that a rollout is learned from, at most; 1: every visit writes.
        max_age: steps after which a rollout is too old; None: never.
        most_kept: keep so many, at most: those of the oldest step go for new ones; None for all.
    """
    step_of = np.repeat(np.arange(plan.total_steps), np.diff(plan.offsets))
    source = np.where(plan.on_policy[step_of], np.arange(len(step_of)), -1)
    last_use = np.full(plan.total_steps, -1, dtype=np.int64)
    last_use[plan.on_policy] = np.flatnonzero(plan.on_policy)
    again = np.zeros(len(step_of), dtype=bool)
    if reuse <= 1:
        return ReusePlan(source, again, last_use)
    shelf = _Shelf(most_kept)
    for visit in np.flatnonzero(source >= 0).tolist():
        example, step = int(plan.visits[visit]), int(step_of[visit])
        wrote, uses = shelf.find(example) or (visit, 0)
        age = step - int(step_of[wrote])
        same = plan.visit_teacher[wrote] == plan.visit_teacher[visit]
        if 0 < age <= (max_age or age) and same:
            source[visit] = wrote
            again[wrote] = True
            last_use[step_of[wrote]] = max(last_use[step_of[wrote]], step)
            shelf.use(example, used_up=uses + 1 >= reuse)
        else:
            shelf.put(example, visit, step)
    return ReusePlan(source, again, last_use)


class _Shelf:
    """By example the visit that wrote its rollout, and its uses; those of a step go together.

    Args:
        room: rollouts that may be there, at most; None for any number.
    """

    def __init__(self, room: int | None) -> None:
        self._room = room
        self._found: dict[int, tuple[int, int, int]] = {}
        self._steps: OrderedDict[int, set[int]] = OrderedDict()
        self._written: dict[int, int] = {}
        self._total = 0

    def find(self, example: int) -> tuple[int, int] | None:
        """The visit that wrote, and how often it was learned from."""
        entry = self._found.get(example)
        return None if entry is None else entry[:2]

    def use(self, example: int, *, used_up: bool) -> None:
        """Learn from the rollout of an example once more."""
        visit, uses, step = self._found[example]
        if used_up:
            self._take(example)
        else:
            self._found[example] = (visit, uses + 1, step)

    def put(self, example: int, visit: int, step: int) -> None:
        """Put a new rollout in the place of the one that an example has, if it has one."""
        self._take(example)
        self._found[example] = (visit, 1, step)
        self._steps.setdefault(step, set()).add(example)
        self._written[step] = self._written.get(step, 0) + 1
        self._total += 1
        while self._room is not None and self._total > self._room and len(self._steps) > 1:
            for old in tuple(self._steps[next(iter(self._steps))]):
                self._take(old)

    def _take(self, example: int) -> None:
        entry = self._found.pop(example, None)
        if entry is None:
            return
        step = entry[2]
        self._steps[step].discard(example)
        if not self._steps[step]:
            del self._steps[step]
            self._total -= self._written.pop(step)
