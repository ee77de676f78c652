"""Successive halving: who goes on is decided early, by runs that are stopped and not started anew.

A rung is a step of the run's own plan, so a learning rate that falls falls as in a whole run, and
what goes on goes on from its checkpoint.

References:
    Jamieson and Talwalkar, Non-stochastic Best Arm Identification, 2016, arXiv:1502.07943; Li et
    al., Hyperband, 2018, arXiv:1603.06560. On deciding by a continuous measure: DataDecide, 2025,
    arXiv:2504.11393.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def rung_steps(total: int, rungs: int, keep: float) -> list[int]:
    """After how many updates runs are compared, the last one at the end of their plan.

    All but the last are multiples of the first, which is how often a run must be validated.

    Args:
        total: updates of a whole run.
        rungs: how many comparisons, the last one included; fewer where a run is too short.
        keep: part of the runs that goes on: the rungs are as much longer as runs are fewer.

    Examples:
        >>> rung_steps(110, 3, 1 / 3)
        [12, 36, 110]
    """
    first = max(1, round(total * keep ** (rungs - 1)))
    steps = [first * round((1 / keep) ** rung) for rung in range(rungs - 1)]
    return [*dict.fromkeys(step for step in steps if step < total), total]


def going_on(values: Sequence[float], keep: float, least: int = 1) -> list[int]:
    """Places of the best values, best first; of equal ones the first stays.

    A value that is not finite is worse than any other.

    Args:
        values: of the runs on a rung.
        keep: part of them that goes on.
        least: so many go on whatever ``keep`` says.
    """
    return ranking(values)[: num_going_on(len(values), keep, least)]


def num_going_on(count: int, keep: float, least: int) -> int:
    """How many of some runs go on."""
    return min(count, max(least, math.ceil(count * keep - 1e-9)))


def ranking(values: Sequence[float]) -> list[int]:
    """Places of the values from best to worst."""
    known = [value if math.isfinite(value) else -math.inf for value in values]
    return sorted(range(len(known)), key=lambda place: (-known[place], place))


def spent(rungs: Sequence[int], entered: Sequence[int]) -> int:
    """Updates that a search makes: each rung costs those who enter it what they had not made yet.

    Args:
        rungs: as :func:`rung_steps` gives them.
        entered: how many runs each rung had.
    """
    before = [0, *rungs[:-1]]
    return sum(
        count * (step - done) for step, done, count in zip(rungs, before, entered, strict=True)
    )


def search_updates(total: int, runs: int, rungs: int, keep: float, least: int) -> int:
    """Updates of a whole search: of its rungs, and of as many runs on each as go on.

    Args:
        total: updates of a whole run.
        runs: how many are tried.
        rungs: as for :func:`rung_steps`.
        keep: as for :func:`going_on`.
        least: as for :func:`going_on`.
    """
    steps, entered = rung_steps(total, rungs, keep), [runs]
    for _ in steps[1:]:
        entered.append(num_going_on(entered[-1], keep, least))
    return spent(steps, entered)


def rung_value(rows: Sequence[Mapping[str, Any]], measure: str, step: int, *, best: bool) -> float:
    """What a run is worth at a rung.

    Args:
        rows: its validations, ascending.
        measure: by name.
        step: of the rung.
        best: take the best so far, as a run does that keeps its best checkpoint.

    Returns:
        The value; minus infinity where the run has none, as one that diverged.
    """
    values = [float(row[measure]) for row in rows if row["step"] <= step and measure in row]
    known = [value for value in values if math.isfinite(value)]
    if best:
        return max(known, default=-math.inf)
    return values[-1] if values and math.isfinite(values[-1]) else -math.inf
