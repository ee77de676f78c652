"""Compile a difficulty profile into a plan: every optimizer step, before the first one is taken."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.curriculum.options import (
    LIMITS,
    LOSS_VALUES,
    CurriculumOptions,
    PlanSettings,
    range_fault,
)
from tutelage.curriculum.sampling import (
    CARRYING,
    Cut,
    cut_again,
    cut_into_steps,
    pass_lengths,
    pass_lengths_made,
    shuffled_visits,
)
from tutelage.curriculum.staging import (
    StagedExamples,
    small_numbers,
    stage_examples,
    teachers_of,
    visits_per_stage,
)
from tutelage.errors import ConfigError
from tutelage.types import DifficultyProfile, Plan, Stage

IntArray = NDArray[np.integer]
FloatArray = NDArray[np.float64]


def compile_plan(
    profile: DifficultyProfile,
    settings: PlanSettings,
    *,
    available: NDArray[np.bool_] | None = None,
) -> Plan:
    """Recipe and difficulty profile in, plan out; the same inputs always give the same plan.

    The plan depends on ids and scores alone, not on the order in which the data lists them.

    Args:
        profile: one difficulty for each example id.
        settings: all else that the plan follows from.
        available: with text, which teacher has an answer for which example, shape ``[K, N]``; None
            for all of them.

    Raises:
        ConfigError: options that do not fit each other or the data.

    Example:
        >>> profile = DifficultyProfile(("a", "b", "c", "d"), np.asarray([1.0, 2.0, 3.0, 4.0]))
        >>> options = CurriculumOptions(stages=2, passes=1.0)
        >>> plan = compile_plan(profile, PlanSettings(options, batch_size=1))
        >>> [stage.num_examples for stage in plan.stages]
        [2, 4]
    """
    staged = stage_examples(profile, settings, available)
    num_visits = visits_per_stage([len(part.positions) for part in staged], settings, profile)
    passes = _passes(pass_lengths, staged, num_visits, settings)
    cut = cut_into_steps(
        list(map(sum, passes)),
        settings.batch_size,
        settings.curriculum.remainder,
        first_stage=1,
    )
    return _assemble(profile, settings, staged, num_visits, passes, cut)


def replan(
    before: Plan,
    stages_done: int,
    profile: DifficultyProfile,
    settings: PlanSettings,
    *,
    available: NDArray[np.bool_] | None = None,
) -> Plan:
    """Keep the stages that are done and compile the others anew, from a profile measured since.

    The new plan has the steps of the old one: as many, each with as many visits, so that a run
    makes the updates and visits that it planned, however often it measures. What changes is which
    stage a step belongs to and which examples it has. Visits of the last stage done that wait for a
    full batch are made first. With the same difficulties the plan stays as it is.

    Args:
        before: the plan that was followed so far.
        stages_done: how many of its stages are done; at least 1, and not all of them.
        profile: the new profile, of the same examples in the same order.
        settings: as for :func:`compile_plan`.
        available: as for :func:`compile_plan`.

    Returns:
        A plan whose first steps, up to the end of stage ``stages_done``, are those of ``before``.
    """
    assert profile.ids == before.ids, "a profile measured since has the same examples"
    assert 1 <= stages_done < len(before.stages)
    options, first = settings.curriculum, stages_done + 1
    staged = stage_examples(profile, settings, available)[stages_done:]
    done = before.stages[:stages_done]
    sizes = [stage.num_examples for stage in done] + [len(part.positions) for part in staged]
    asked = visits_per_stage(sizes, settings, profile)[stages_done:]
    # Steps of the stages that are done, and visits of these stages that are still to be made.
    kept = int((before.step_stage <= stages_done).sum())
    start = int(before.offsets[kept])
    carries = options.remainder in CARRYING and options.total_steps is None
    planned = sum(round(stage.passes * stage.num_examples) for stage in done)
    carried = planned - start if carries else 0
    # What the stages that are left would make by the rules is their claim to the steps left.
    by_rule = list(map(sum, _passes(pass_lengths, staged, asked, settings)))
    used = cut_into_steps(by_rule, settings.batch_size, options.remainder, first, carried).used
    cut = cut_again(
        before.offsets[kept:] - start, carried, used, carries=carries, first_stage=first
    )
    passes = _passes(pass_lengths_made, staged, np.asarray(cut.used), settings)
    num_visits = asked * (np.asarray(cut.used) / np.asarray(used))
    return _assemble(
        profile, settings, staged, num_visits, passes, cut, _Kept(before, kept, carried)
    )


def _passes(
    lengths: Callable[[int, int, int | None], list[int]],
    staged: list[StagedExamples],
    num_visits: IntArray,
    settings: PlanSettings,
) -> list[list[int]]:
    """Lengths of the passes of each stage."""
    options = settings.curriculum
    drops = options.remainder == "drop" and options.total_steps is None
    whole = settings.batch_size if drops else None
    return [
        lengths(len(part.positions), int(count), whole)
        for part, count in zip(staged, num_visits, strict=True)
    ]


@dataclass(frozen=True)
class _Kept:
    """What stays of a plan when it is made anew.

    Attributes:
        plan: the plan.
        steps: how many of its first steps.
        carried: visits after these steps that belong to a stage that is done.
    """

    plan: Plan
    steps: int
    carried: int

    @property
    def start(self) -> int:
        """Visits of the steps that stay."""
        return int(self.plan.offsets[self.steps])

    @property
    def visits(self) -> int:
        """Visits that stay."""
        return self.start + self.carried


def _assemble(
    profile: DifficultyProfile,
    settings: PlanSettings,
    staged: list[StagedExamples],
    num_visits: IntArray | FloatArray,
    passes: list[list[int]],
    cut: Cut,
    kept: _Kept | None = None,
) -> Plan:
    """Visits, steps and values; the first stages come from what is ``kept`` when there is any."""
    options, batch_size = settings.curriculum, settings.batch_size
    first_stage = options.stages - len(staged) + 1
    visits = shuffled_visits(
        [part.positions for part in staged],
        passes,
        cut.used,
        weights=[part.weights for part in staged],
        seed=settings.seed,
        first_stage=first_stage,
    )
    offsets, step_stage = cut.offsets, cut.step_stage
    if kept is not None:
        before = kept.plan
        visits = np.concatenate([before.visits[: kept.visits], visits])
        offsets = before.offsets
        step_stage = np.concatenate([before.step_stage[: kept.steps], step_stage])
    epochs = options.baseline_epochs(len(profile), batch_size)
    baseline_steps = math.ceil(epochs * len(profile) / batch_size - 1e-9)
    plan = Plan(
        ids=profile.ids,
        visits=visits,
        offsets=offsets,
        step_stage=step_stage,
        **_values(settings, step_stage, kept),
        restarts=_restarts(step_stage) if options.restart else np.empty(0, dtype=np.int64),
        teachers=tuple(settings.teachers),
        visit_teacher=_visit_teachers(settings, staged, visits, cut, len(profile), kept),
        visit_weight=_visit_weights(profile, options, visits, kept),
        stages=(),
        batch_size=batch_size,
        curriculum=options.kind,
        seed=settings.seed,
        baseline_steps=baseline_steps,
        baseline_epochs=epochs,
        baseline_lr_mean=float(settings.learning_rate.factors(baseline_steps).mean()),
    )
    stages = _describe_stages(plan, settings, staged, num_visits, _targets(profile, options))
    done = () if kept is None else kept.plan.stages[: first_stage - 1]
    return replace(plan, stages=(*done, *stages))


def _visit_teachers(
    settings: PlanSettings,
    staged: list[StagedExamples],
    visits: IntArray,
    cut: Cut,
    num_examples: int,
    kept: _Kept | None,
) -> IntArray:
    """The teacher of each visit: its own with text, its step's with logits."""
    if settings.supervision == "text":
        teacher_of = small_numbers(np.zeros(num_examples, dtype=np.int8), settings.teachers)
        found = np.empty(len(visits), dtype=teacher_of.dtype)
        end = 0 if kept is None else kept.visits
        if kept is not None:
            found[:end] = kept.plan.visit_teacher[:end]
        for part, count in zip(staged, cut.used, strict=True):
            start, end = end, end + count
            assert part.teachers is not None, "with text every example has a teacher"
            teacher_of[part.positions] = part.teachers
            found[start:end] = teacher_of[visits[start:end]]
        return found
    numbers = np.arange(len(cut.step_stage)) + (0 if kept is None else kept.steps)
    by_step = np.empty(len(numbers), dtype=np.int64)
    for stage in np.unique(cut.step_stage):
        here = cut.step_stage == stage
        by_step[here] = teachers_of(settings, int(stage), numbers[here])
    new = np.repeat(small_numbers(by_step, settings.teachers), np.diff(cut.offsets))
    return new if kept is None else np.concatenate([kept.plan.visit_teacher[: kept.start], new])


def _visit_weights(
    profile: DifficultyProfile, options: CurriculumOptions, visits: IntArray, kept: _Kept | None
) -> FloatArray:
    """What each visit counts; empty where all count alike."""
    weights = options.example_weights(profile)
    if weights is None:
        return np.empty(0)
    found = weights[visits]
    if kept is not None:
        found[: kept.visits] = kept.plan.visit_weight[: kept.visits]
    return found


def _restarts(step_stage: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first step of every stage but the first."""
    return np.flatnonzero(np.diff(step_stage)) + 1


def _values(
    settings: PlanSettings, step_stage: NDArray[np.int64], kept: _Kept | None
) -> dict[str, Any]:
    """Scheduled values of every step; the steps that are kept keep theirs."""
    stages, total = settings.curriculum.stages, len(step_stage)
    values: dict[str, Any] = {
        name: settings.schedule_of(name).values(step_stage, stages) for name in LIMITS
    }
    for name, at_steps in values.items():
        if fault := range_fault(name, at_steps.min(), at_steps.max()):
            raise ConfigError(f"{name} {fault}")
    chance = np.random.default_rng([settings.seed, 0, 0, 2]).random(total)
    values["on_policy"] = chance < values["on_policy"]
    # The student's own answer is no truth to learn by cross-entropy.
    values["ce_weight"] = np.where(values["on_policy"], 0.0, values["ce_weight"])
    if settings.curriculum.restart:
        lengths = np.bincount(step_stage)[1:]
        courses = [settings.learning_rate.factors(int(n)) for n in lengths]
        values["lr_factor"] = np.concatenate(courses)
    else:
        values["lr_factor"] = settings.learning_rate.factors(total)
    if kept is not None:
        for name in values:
            values[name][: kept.steps] = getattr(kept.plan, name)[: kept.steps]
    return values


def _targets(profile: DifficultyProfile, options: CurriculumOptions) -> FloatArray | None:
    """Mean difficulties that the stages aim at; None when they aim at none."""
    aims = options.entry.targets if (options.order or "easy_first") == "easy_first" else None
    return None if aims is None else aims(profile.running_mean, options.stages)


def _describe_stages(
    plan: Plan,
    settings: PlanSettings,
    staged: list[StagedExamples],
    num_visits: IntArray | FloatArray,
    targets: FloatArray | None,
) -> list[Stage]:
    """A summary of each stage that was compiled."""
    first_stage = settings.curriculum.stages - len(staged) + 1
    takes_logits = plan.takes_logits
    stages = []
    for number, (part, count) in enumerate(zip(staged, num_visits, strict=True), first_stage):
        here = plan.step_stage == number
        signal = takes_logits[here].any()
        first, last = np.searchsorted(plan.step_stage, [number, number + 1])
        numbers = plan.visit_teacher[plan.offsets[first] : plan.offsets[last]]
        names = " + ".join(name for i, name in enumerate(plan.teachers) if (numbers == i).any())
        stages.append(
            Stage(
                stage=number,
                num_examples=len(part.positions),
                mean_difficulty=part.mean_difficulty,
                target_difficulty=None if targets is None else float(targets[number - 1]),
                passes=float(count / len(part.positions)),
                steps=int(here.sum()),
                **{name: _mean(getattr(plan, name)[here]) for name in LOSS_VALUES},
                teacher=names if signal or settings.supervision == "text" else "",
            )
        )
    return stages


def _mean(values: FloatArray) -> float:
    """The mean; equal values give that value itself, without rounding."""
    if not len(values):
        return float("nan")
    return float(values[0] if (values == values[0]).all() else values.mean())
