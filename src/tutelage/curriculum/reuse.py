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
        last_use: for each step, the last step at which a rollout of it is learned from; -1 for a
            step that writes none; shape ``[S]``.
        most_kept: rollouts that are kept at once for later steps, at most.
    """

    source: NDArray[np.int64]
    last_use: NDArray[np.int64]
    most_kept: int

    @property
    def num_written(self) -> int:
        """Rollouts that are written in all."""
        return int((self.source == np.arange(len(self.source))).sum())

    @property
    def num_learned(self) -> int:
        """Visits that learn from a rollout, a new one or one that is there."""
        return int((self.source >= 0).sum())


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
        most_kept: keep so many, at most: the oldest one goes for a new one; None for all.
    """
    step_of = np.repeat(np.arange(plan.total_steps), np.diff(plan.offsets))
    source = np.where(plan.on_policy[step_of], np.arange(len(step_of)), -1)
    last_use = np.full(plan.total_steps, -1, dtype=np.int64)
    last_use[plan.on_policy] = np.flatnonzero(plan.on_policy)
    if reuse <= 1:
        return ReusePlan(source, last_use, 0)
    # By example the visit that wrote its rollout, and its uses so far; the oldest come first.
    kept: OrderedDict[int, tuple[int, int]] = OrderedDict()
    most = 0
    for visit in np.flatnonzero(source >= 0).tolist():
        example, step = int(plan.visits[visit]), int(step_of[visit])
        wrote, uses = kept.get(example, (visit, 0))
        age = step - int(step_of[wrote])
        same = plan.visit_teacher[wrote] == plan.visit_teacher[visit]
        if 0 < age <= (max_age or age) and same:
            source[visit] = wrote
            last_use[step_of[wrote]] = max(last_use[step_of[wrote]], step)
            if uses + 1 < reuse:
                kept[example] = (wrote, uses + 1)
            else:
                del kept[example]
            continue
        kept.pop(example, None)
        kept[example] = (visit, 1)
        if most_kept is not None and len(kept) > most_kept:
            kept.popitem(last=False)
        most = max(most, len(kept))
    return ReusePlan(source, last_use, most)
