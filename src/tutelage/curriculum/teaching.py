"""Teacher schedules: which teacher of the ladder speaks when. Pure and seeded.

Teachers are numbered from the weakest, 0, to the strongest, K - 1. With written answers (text)
every example of a stage has a teacher, who wrote its answer; with logits every step has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.components import Component
from tutelage.errors import ConfigError

IntArray = NDArray[np.int64]


def _stage_teacher(stage: int, num_stages: int, num_teachers: int, shares: NDArray | None) -> int:
    """The teacher of a stage when each teacher has its share of the stages, in order."""
    parts = np.ones(num_teachers) if shares is None else shares
    ends = np.cumsum(parts) / parts.sum()
    # The middle of the stage decides, so that two stages and two teachers pair off whatever rounds.
    return int(
        np.searchsorted(ends, (stage - 0.5) / num_stages, side="right").clip(0, len(ends) - 1)
    )


def _check_shares(shares: Sequence[float] | None, num_teachers: int) -> NDArray | None:
    if shares is None:
        return None
    parts = np.asarray(shares, dtype=np.float64)
    if parts.shape != (num_teachers,) or not (np.isfinite(parts) & (parts > 0)).all():
        raise ConfigError(
            f"`shares` of a teacher schedule needs one positive number for each of the"
            f" {num_teachers} teachers, got {list(shares)}."
        )
    return parts


def strongest(
    stage: int, num_stages: int, num_teachers: int, units: IntArray, seed: int
) -> IntArray:
    """The last of the ladder throughout: ordinary distillation from the best teacher.

    Args:
        stage: number of the stage, from 1.
        num_stages: n.
        num_teachers: K.
        units: what is to be given a teacher: ranks of examples by difficulty, or numbers of steps.
        seed: seed of the plan.

    Returns:
        A teacher for each unit, shape of ``units``.
    """
    return np.full(len(units), num_teachers - 1, dtype=np.int64)


def weakest(stage: int, num_stages: int, num_teachers: int, units: IntArray, seed: int) -> IntArray:
    """The first of the ladder throughout; arguments as in :func:`strongest`."""
    return np.zeros(len(units), dtype=np.int64)


def ladder(
    stage: int,
    num_stages: int,
    num_teachers: int,
    units: IntArray,
    seed: int,
    *,
    shares: Sequence[float] | None = None,
) -> IntArray:
    """From weak to strong, stage by stage (CLPD's implicit curriculum).

    Args:
        stage: number of the stage, from 1.
        num_stages: n.
        num_teachers: K; with n = K each stage has its own teacher.
        units: examples or steps.
        seed: not used.
        shares: part of the stages that each teacher has, from weak to strong; None for equal parts.

    Raises:
        ConfigError: ``shares`` does not fit the number of teachers.

    References:
        Cao et al., CLPD, 2026, arXiv:2605.11260.
    """
    parts = _check_shares(shares, num_teachers)
    return np.full(len(units), _stage_teacher(stage, num_stages, num_teachers, parts))


def reversed_ladder(
    stage: int,
    num_stages: int,
    num_teachers: int,
    units: IntArray,
    seed: int,
    *,
    shares: Sequence[float] | None = None,
) -> IntArray:
    """From strong to weak, stage by stage: a control.

    ``shares`` belong to the teachers, from weak to strong as in :func:`ladder`: the last one is the
    part of the stages, here the first ones, that the strongest teacher has.
    """
    mirrored = None if shares is None else list(shares)[::-1]
    up = ladder(stage, num_stages, num_teachers, units, seed, shares=mirrored)
    return num_teachers - 1 - up


def random_mix(
    stage: int, num_stages: int, num_teachers: int, units: IntArray, seed: int
) -> IntArray:
    """Every example (or step) has a teacher of its own, drawn once: a mixture without an order."""
    # splitmix64 of unit and seed: the draw of a unit does not depend on which others there are.
    with np.errstate(over="ignore"):
        x = units.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x % np.uint64(num_teachers)).astype(np.int64)


def ensemble(
    stage: int,
    num_stages: int,
    num_teachers: int,
    units: IntArray,
    seed: int,
    *,
    weights: list[float] | None = None,
    space: Literal["probability", "logit"] = "probability",
) -> IntArray:
    """All teachers at once, mixed; to a plan they are one teacher.

    Args:
        stage: number of the stage, from 1.
        num_stages: n.
        num_teachers: 1, the mixture.
        units: examples or steps.
        seed: not used.
        weights: of each teacher, from weak to strong; None for equal ones.
        space: what is mixed; see ``targets.mix_teachers``.
    """
    return np.zeros(len(units), dtype=np.int64)


@dataclass(frozen=True)
class TeacherSchedule(Component):
    """A teacher schedule and which teachers it needs.

    Attributes:
        alone: place on the ladder of the only one that ever speaks; None when all do.
        mixes: whether all speak at once: to a plan they are one teacher, and none writes answers.
        alternates: whether steps, one after another, may have any of them.
    """

    alone: int | None = None
    mixes: bool = False
    alternates: bool = False


TEACHER_SCHEDULES: dict[str, TeacherSchedule] = {
    "strongest": TeacherSchedule(strongest, "the last teacher of the ladder throughout", alone=-1),
    "weakest": TeacherSchedule(weakest, "the first teacher of the ladder throughout", alone=0),
    "ladder": TeacherSchedule(
        ladder, "from weak to strong, stage by stage (CLPD)", "Cao et al. 2026, arXiv:2605.11260"
    ),
    "reversed_ladder": TeacherSchedule(
        reversed_ladder,
        "from strong to weak, stage by stage: a control",
        "Cao et al. 2026, arXiv:2605.11260",
    ),
    "random_mix": TeacherSchedule(
        random_mix,
        "each example has a teacher drawn once: a mixture without an order",
        alternates=True,
    ),
    "ensemble": TeacherSchedule(
        ensemble, "all teachers at once, their probabilities or logits mixed", mixes=True
    ),
}
"""Which teacher comes when, by name; `tutelage ls teacher_schedules` prints them."""
