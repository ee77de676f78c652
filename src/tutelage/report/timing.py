"""How much time is left of a run: what its plans cost, at the speed that was seen so far."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ArmTime:
    """What is known of an arm's time.

    Attributes:
        planned: optimizer steps of its plan; None before it is made.
        done: whether its training is done.
        steps: of its records, ascending.
        seconds: that its training had taken at each of them.
        estimate: seconds that its plan was estimated to take; None when it was not.
        course: share of its plan's cost that is done after equal parts of its steps, from 0 to 1;
            empty: every step costs the same.
        evaluation: seconds that its evaluation will take.
    """

    planned: int | None
    done: bool
    steps: Sequence[int] = ()
    seconds: Sequence[float] = ()
    estimate: float | None = None
    course: Sequence[float] = ()
    evaluation: float = 0.0

    def share(self, step: int) -> float:
        """The share of the plan's cost that is done after a step."""
        part = min(1.0, step / self.planned) if self.planned else 0.0
        if len(self.course) < 2:
            return part
        return float(np.interp(part, np.linspace(0, 1, len(self.course)), self.course))

    @property
    def whole(self) -> float | None:
        """Seconds of the whole training at the speed that was seen; None before it was seen.

        Between the first record and the last, so that loading is no part of the speed, and then
        what came before the first record is added.
        """
        if not self.planned or len(self.steps) < 2:
            return None
        done = self.share(self.steps[-1]) - self.share(self.steps[0])
        if done <= 0:
            return None
        each = (self.seconds[-1] - self.seconds[0]) / done
        return self.seconds[0] + each * (1 - self.share(self.steps[0]))


def seconds_left(arms: Sequence[ArmTime]) -> float | None:
    """Seconds until all arms are trained and evaluated; None when no speed was seen yet.

    An arm that has begun goes on at its own speed. One that has not takes what its plan was
    estimated to take, corrected by how far the others' estimates were off; without estimates, as
    long for each step as the others.

    Args:
        arms: of the run.
    """
    seen = [(arm, whole) for arm in arms if (whole := arm.whole) is not None]
    off = [whole / arm.estimate for arm, whole in seen if arm.estimate]
    each = [whole / arm.planned for arm, whole in seen if arm.planned]
    left = 0.0
    for arm in arms:
        if not arm.done:
            whole = arm.whole
            if whole is not None:
                left += max(0.0, whole - arm.seconds[-1])
            elif arm.estimate:
                left += arm.estimate * (float(np.mean(off)) if off else 1.0)
            elif arm.planned and each:
                left += arm.planned * float(np.mean(each))
            else:
                return None
        left += arm.evaluation
    return left
