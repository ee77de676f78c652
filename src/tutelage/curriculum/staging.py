"""Before the steps of a plan: which examples each stage has, and how often it visits them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.components import bind
from tutelage.curriculum.options import CurriculumOptions, PlanSettings
from tutelage.curriculum.teaching import TEACHER_SCHEDULES
from tutelage.errors import ConfigError
from tutelage.ids import index_type
from tutelage.types import DifficultyProfile

IntArray = NDArray[np.integer]
MOST_VISITS = 1_000_000_000
"""A plan is held in memory, four bytes a visit and more."""


@dataclass(frozen=True)
class StagedExamples:
    """The subset of a stage.

    Attributes:
        positions: of its examples, from the curriculum's first to its last, shape ``[k]``.
        teachers: which teacher each of them has, shape ``[k]``; None with logits, where steps have
            a teacher and not examples.
        mean_difficulty: mean score of its examples, as often as it visits them.
        weights: how often it visits each of them, shape ``[k]``; None: all alike.
    """

    positions: IntArray
    teachers: IntArray | None
    mean_difficulty: float
    weights: NDArray[np.float64] | None = None


def stage_examples(
    profile: DifficultyProfile, settings: PlanSettings, available: NDArray[np.bool_] | None
) -> list[StagedExamples]:
    """Which examples each stage has."""
    options = settings.curriculum
    sizes = options.sizes(profile, settings.batch_size)
    ranks = _ordered(len(profile), options, settings.seed)
    order = profile.order if ranks is None else profile.order[ranks]
    scores = profile.sorted_scores if ranks is None else profile.sorted_scores[ranks]
    staged = []
    for stage in range(1, options.stages + 1):
        places = options.subset(len(profile), sizes, stage, settings.seed)
        positions, difficulty = order[places], scores[places]
        weights = options.draw(profile, stage)
        if not len(positions):
            raise ConfigError(
                f"Stage {stage} of {options.stages} has no example: there are only {len(profile)}."
                " Use fewer stages."
            )
        teachers = None
        if settings.supervision == "text":
            units = np.arange(len(profile))[places] if ranks is None else ranks[places]
            teachers = small_numbers(teachers_of(settings, stage, units), settings.teachers)
            if available is not None:
                there = available[teachers, positions]
                if not there.any():
                    raise _nothing_left(stage)
                positions, teachers = positions[there], teachers[there]
                difficulty = difficulty[there]
                weights = None if weights is None else weights[there]
        mean = difficulty.mean() if weights is None else np.average(difficulty, weights=weights)
        staged.append(StagedExamples(positions, teachers, float(mean), weights))
    return staged


def _nothing_left(stage: int) -> ConfigError:
    return ConfigError(
        f"Stage {stage} has no example left: no answer of its teacher was kept. Keep wrong answers"
        " (supervision.on_wrong: keep), use fewer stages, or a better teacher for it."
    )


def small_numbers(teachers: IntArray, names: Sequence[str]) -> IntArray:
    """Numbers of teachers in the smallest type that will do."""
    return teachers.astype(np.min_scalar_type(len(names)))


def teachers_of(settings: PlanSettings, stage: int, units: IntArray) -> IntArray:
    """A teacher for each example (by rank of difficulty) or step (by number) of a stage."""
    spec = settings.teacher_schedule
    options = {"kind": spec} if isinstance(spec, str) else dict(spec)
    schedule = bind(TEACHER_SCHEDULES, "teacher schedule", options.pop("kind"), options)
    return schedule(stage, settings.curriculum.stages, len(settings.teachers), units, settings.seed)


def _ordered(num_examples: int, options: CurriculumOptions, seed: int) -> IntArray | None:
    """The curriculum's order as ranks of difficulty (0 is the easiest); None when it is that."""
    order = options.order or options.entry.order
    if order == "easy_first":
        return None
    ranks = np.arange(num_examples, dtype=index_type(num_examples))
    if order == "hard_first":
        return ranks[::-1]
    # Stage 0 is no stage: this stream is never used for shuffling.
    return np.random.default_rng([seed, 0]).permutation(ranks)


def visits_per_stage(
    sizes: Sequence[int], settings: PlanSettings, profile: DifficultyProfile
) -> IntArray:
    """How many visits each stage makes; fractions are rounded so that the total stays right."""
    options, batch_size = settings.curriculum, settings.batch_size
    counts = np.asarray(sizes, dtype=np.int64)
    if options.total_steps is not None:
        _check_length(float(options.total_steps) * batch_size)
        return share_out(counts, options.total_steps, batch_size)
    if options.iteration_ratio is not None:
        epochs = options.baseline_epochs(len(profile), batch_size)
        passes = options.iteration_ratio * epochs * len(profile) / counts.sum()
    else:
        passes = options.passes if options.passes is not None else options.entry.passes
    _check_length(float(counts.sum()) * passes)
    visits = np.diff(np.ceil(np.cumsum(counts) * passes - 1e-9), prepend=0).astype(np.int64)
    return np.maximum(visits, 1)


def _check_length(visits: float) -> None:
    if visits > MOST_VISITS:
        raise ConfigError(
            f"The plan would visit examples {visits:.3g} times, and {MOST_VISITS:,} is the most"
            " that one can hold. Use fewer passes, stages or steps."
        )


def share_out(sizes: IntArray, total_steps: int, batch_size: int) -> IntArray:
    """Visits of stages that make ``total_steps`` in all: one step each, the others by size."""
    free = total_steps - len(sizes)
    shared = np.diff(np.round(np.cumsum(sizes) / sizes.sum() * free), prepend=0)
    return ((1 + shared) * batch_size).astype(np.int64)


def pairs_wanted(profile: DifficultyProfile, settings: PlanSettings) -> NDArray[np.bool_]:
    """Which teacher is to write an answer for which example, shape ``[K, N]``.

    Args:
        profile: difficulty of the examples.
        settings: of a plan whose supervision is text.
    """
    wanted = np.zeros((len(settings.teachers), len(profile)), dtype=bool)
    for part in stage_examples(profile, settings, None):
        wanted[part.teachers, part.positions] = True
    return wanted
