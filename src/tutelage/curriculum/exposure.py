"""What a plan gives to easy and to hard examples, against a plain shuffled run.

A curriculum that brings the hardest examples last may bring them when the learning rate and the
teacher's share are almost gone. This is visible before the run, and said in words.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.types import DifficultyProfile, Plan

SPAN = 1 << 20
LITTLE = 0.15
"""A tenth that gets less than this part of a plain run's signal is named in a warning."""


@dataclass(frozen=True)
class TenthExposure:
    """Totals over the examples of one tenth of the data, from easiest (1) to hardest (10).

    Attributes:
        tenth: its number.
        num_examples: how many examples it has; fewer than ten examples leave some tenths empty.
        first_step: step (from 1) of the first visit to any of its examples; None when there is
            none.
        visits: how often its examples are visited.
        lr_visits: visits, each weighted by the learning rate as a part of its peak, and by what it
            counts in its step where examples have weights.
        teacher_visits: the same, weighted by the teacher's share in the loss as well:
            (1 - ce_weight) (1 - student_share).
        plain_visits: visits in a plain shuffled run of ``baseline_steps``.
        plain_lr_visits: the same weighted by its learning rate.
    """

    tenth: int
    num_examples: int
    first_step: int | None
    visits: int
    lr_visits: float
    teacher_visits: float
    plain_visits: float
    plain_lr_visits: float

    def as_dict(self) -> dict[str, Any]:
        """The exposure as plain values."""
        return asdict(self)


def exposure(plan: Plan, profile: DifficultyProfile) -> tuple[TenthExposure, ...]:
    """Exposure of each tenth of difficulty; ids join the two, so their orders may differ."""
    tenth_of = np.empty(len(profile), dtype=np.uint8)
    for number, positions in enumerate(np.array_split(profile.order, 10)):
        tenth_of[positions] = number
    if plan.ids != profile.ids:
        positions = profile.ids.locate(plan.ids)
        assert (positions >= 0).all(), "the profile has the examples of the plan"
        tenth_of = tenth_of[positions]

    counts = np.bincount(tenth_of, minlength=10)
    visits = np.zeros(10, dtype=np.int64)
    lr_visits, teacher_visits = np.zeros(10), np.zeros(10)
    first_steps: list[int | None] = [None] * 10
    lr = plan.lr_factor
    teacher = lr * ((1 - plan.ce_weight) * (1 - plan.student_share))
    for steps in _spans(plan):
        first, last = plan.offsets[[steps.start, steps.stop]]
        visited = tenth_of[plan.visits[first:last]]
        lengths = np.diff(plan.offsets[steps.start : steps.stop + 1])
        visits += np.bincount(visited, minlength=10)
        # Added one by one, so that a sum does not depend on where spans end.
        counts_as = _counts_as(plan, steps, lengths)
        np.add.at(lr_visits, visited, np.repeat(lr[steps], lengths) * counts_as)
        np.add.at(teacher_visits, visited, np.repeat(teacher[steps], lengths) * counts_as)
        for number in range(10):
            if first_steps[number] is None and visits[number]:
                visit = first + int(np.argmax(visited == number))
                first_steps[number] = int(np.searchsorted(plan.offsets, visit, side="right"))
    rows = []
    for number in range(10):
        plain = float(counts[number] * plan.baseline_epochs)
        rows.append(
            TenthExposure(
                tenth=number + 1,
                num_examples=int(counts[number]),
                first_step=first_steps[number],
                visits=int(visits[number]),
                lr_visits=float(lr_visits[number]),
                teacher_visits=float(teacher_visits[number]),
                plain_visits=plain,
                plain_lr_visits=plain * plan.baseline_lr_mean,
            )
        )
    return tuple(rows)


def _counts_as(plan: Plan, steps: slice, lengths: NDArray[np.int64]) -> float | NDArray[np.float64]:
    """What each visit of some steps counts, with mean 1 in each step; 1 where all count alike."""
    if not len(plan.visit_weight):
        return 1.0
    first, last = plan.offsets[[steps.start, steps.stop]]
    weights = plan.visit_weight[first:last]
    sums = np.add.reduceat(weights, plan.offsets[steps] - first)
    means = np.where(sums > 0, sums, 1.0) / lengths
    return weights / np.repeat(means, lengths)


def _spans(plan: Plan) -> Iterator[slice]:
    """Spans of steps with few enough visits to look at all at once."""
    steps = max(SPAN // plan.batch_size, 1)
    for start in range(0, plan.total_steps, steps):
        yield slice(start, min(start + steps, plan.total_steps))


def plan_warnings(plan: Plan, rows: tuple[TenthExposure, ...]) -> list[str]:
    """What the plan will regret, in words; empty when there is nothing to say."""
    warnings = []
    if plan.has_teacher_signal():
        silent = [str(stage.stage) for stage in plan.stages if not stage.teacher]
        if silent:
            steps = sum(stage.steps for stage in plan.stages if not stage.teacher)
            several = len(silent) > 1
            warnings.append(
                f"Stage{'s' if several else ''} {', '.join(silent)} ({steps} of"
                f" {plan.total_steps} steps) {'have' if several else 'has'} no teacher's signal:"
                " the target is the student itself or the weight of distillation is 0. With"
                " student_share {kind: shifted} the teacher stays to the last stage."
            )
    kd_weight = float((1 - plan.ce_weight).mean())
    present = [row for row in rows if row.num_examples]
    training = [row for row in present if row.lr_visits < LITTLE * row.plain_lr_visits]
    if training:
        part = _part(training, "lr_visits", 1.0)
        warnings.append(
            f"{_arrival(plan, training)} In all they get {part:.0%} of the training"
            " (visits x learning rate) of a plain run."
        )
    starved = [
        row
        for row in present
        if row not in training and row.teacher_visits < LITTLE * kd_weight * row.plain_lr_visits
    ]
    if plan.has_teacher_signal() and starved:
        part = _part(starved, "teacher_visits", kd_weight)
        warnings.append(
            f"{_arrival(plan, starved)} In all they get {part:.0%} of the teacher's signal of a"
            " plain run."
        )
    return warnings


def _part(rows: list[TenthExposure], name: str, weight: float) -> float:
    """What some tenths get, as a part of a plain run's."""
    return sum(getattr(row, name) for row in rows) / (
        weight * sum(row.plain_lr_visits for row in rows)
    )


def _arrival(plan: Plan, rows: list[TenthExposure]) -> str:
    """Which tenths, when they come, and what is left of learning rate and teacher by then."""
    numbers = ", ".join(str(row.tenth) for row in rows)
    name = f"Tenth{'s' if len(rows) > 1 else ''} {numbers} of the data"
    if rows[-1].tenth == 10:
        name += " (10 is the hardest)"
    first_steps = [row.first_step for row in rows if row.first_step is not None]
    if not first_steps:
        return f"{name}: their examples are never visited."
    step = min(first_steps) - 1
    return (
        f"{name}: their examples first come at step {step + 1} of {plan.total_steps}, with the"
        f" learning rate at {plan.lr_factor[step]:.0%} of its peak and the teacher's share of the"
        f" target at {1 - plan.student_share[step]:.0%}."
    )
