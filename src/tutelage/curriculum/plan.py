"""Compile a difficulty profile into a plan: every optimizer step, before the first one is taken."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tutelage.components import bind
from tutelage.curriculum.pacing import calibrated_targets
from tutelage.curriculum.sampling import REMAINDERS, Remainder, cut_into_steps, stage_visits
from tutelage.curriculum.table import CURRICULA, ORDERS, Curriculum, Order
from tutelage.errors import ConfigError, unknown_name
from tutelage.schedules import ScheduledValue, learning_rate_factors, scheduled
from tutelage.schedules.spec import Spec
from tutelage.types import DifficultyProfile, Plan, Stage

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class CurriculumOptions:
    """How the data is staged.

    Attributes:
        kind: name of a curriculum in ``CURRICULA``.
        stages: n; CPD's published runs have one stage for each epoch.
        passes: visits of each stage to its subset, may be fractional; None takes the curriculum's
            usual number (2 for ``calibrated``, which is what CPD's printed iteration counts imply).
        iteration_ratio: instead of ``passes``: total visits as a part of the plain run's.
        total_steps: instead of both: the number of optimizer steps, shared out among the stages in
            proportion to their sizes; this is how controls are matched to a run.
        epochs: passes of the plain run that the plan is compared with; None means as many updates
            as ``total_steps``, or else ``stages``.
        order: which end the subsets are prefixes of; None takes the curriculum's own.
        min_examples: no calibrated subset is smaller; None means the batch size.
        remainder: what happens to visits that do not fill a batch; see ``REMAINDERS``.
    """

    kind: str = "calibrated"
    stages: int = 20
    passes: float | None = None
    iteration_ratio: float | None = None
    total_steps: int | None = None
    epochs: float | None = None
    order: Order | None = None
    min_examples: int | None = None
    remainder: Remainder = "carry"

    def __post_init__(self) -> None:
        if self.kind not in CURRICULA:
            raise unknown_name("curriculum", self.kind, CURRICULA)
        if self.stages < 1:
            raise ConfigError(f"A curriculum needs at least one stage, got stages={self.stages}.")
        given = [
            name
            for name in ("passes", "iteration_ratio", "total_steps")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise ConfigError(
                f"Give one of {' and '.join(given)}, not both: each sets the number of updates."
            )
        for name in (*given, "epochs", "min_examples"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"curriculum.{name} must be positive, got {value}.")
        if self.total_steps is not None and self.total_steps < self.stages:
            raise ConfigError(
                f"total_steps={self.total_steps} gives some of the {self.stages} stages no step."
                " Use fewer stages or more steps."
            )
        if self.order is not None and self.order not in ORDERS:
            raise unknown_name("curriculum order", self.order, ORDERS)
        if self.remainder not in REMAINDERS:
            raise unknown_name("remainder rule", self.remainder, REMAINDERS)

    def baseline_epochs(self, num_examples: int, batch_size: int) -> float:
        """Passes of the plain run: as told, else as many updates as told, else one each stage."""
        if self.epochs is not None:
            return float(self.epochs)
        if self.total_steps is not None:
            return self.total_steps * batch_size / num_examples
        return float(self.stages)

    @property
    def entry(self) -> Curriculum:
        """The row of ``CURRICULA``."""
        return CURRICULA[self.kind]


@dataclass(frozen=True)
class LearningRate:
    """The learning rate over the run; see ``schedules.learning_rate_factors``."""

    schedule: str = "cosine"
    warmup_ratio: float = 0.0
    min_ratio: float = 0.0

    def factors(self, total_steps: int) -> NDArray[np.float64]:
        """Learning rate of each step as a part of its peak."""
        return learning_rate_factors(
            self.schedule, total_steps, warmup_ratio=self.warmup_ratio, min_ratio=self.min_ratio
        )


def compile_plan(
    profile: DifficultyProfile,
    curriculum: CurriculumOptions | str = "calibrated",
    *,
    batch_size: int,
    student_share: Spec | ScheduledValue = 0.0,
    distill_temperature: Spec | ScheduledValue = 1.0,
    ce_weight: Spec | ScheduledValue = 0.0,
    learning_rate: LearningRate | None = None,
    teacher: str = "teacher",
    seed: int = 0,
) -> Plan:
    """Recipe and difficulty profile in, plan out; the same inputs always give the same plan.

    The plan depends on ids and scores alone, not on the order in which the data lists them.

    Args:
        profile: one difficulty for each example id.
        curriculum: options, or just the name of a curriculum.
        batch_size: examples of one optimizer step over all processes.
        student_share: schedule of the student's share in the target; see ``schedules.scheduled``.
        distill_temperature: schedule of the temperature.
        ce_weight: schedule of the weight of cross-entropy.
        learning_rate: schedule of the learning rate; None is a cosine to 0.
        teacher: name of the teacher, for the stages that have one.
        seed: seed of all shuffling.

    Raises:
        ConfigError: options that do not fit each other or the data.

    Example:
        >>> profile = DifficultyProfile(("a", "b", "c", "d"), np.asarray([1.0, 2.0, 3.0, 4.0]))
        >>> plan = compile_plan(profile, CurriculumOptions(stages=2, passes=1.0), batch_size=1)
        >>> [stage.num_examples for stage in plan.stages]
        [2, 4]
    """
    options = CurriculumOptions(kind=curriculum) if isinstance(curriculum, str) else curriculum
    learning_rate = learning_rate or LearningRate()
    if batch_size < 1:
        raise ConfigError(f"The batch size must be at least 1, got {batch_size}.")
    sizes = _subset_sizes(profile, options, batch_size)
    order = _ordered(profile, options, seed)
    num_visits = _visits_per_stage(sizes, options, len(profile), batch_size)
    visits, offsets, step_stage = cut_into_steps(
        [
            stage_visits(order[:size], count, seed=seed, stage=number)
            for number, (size, count) in enumerate(zip(sizes, num_visits, strict=True), start=1)
        ],
        batch_size,
        options.remainder,
    )
    shares = scheduled(student_share).values(step_stage, options.stages)
    temperatures = scheduled(distill_temperature).values(step_stage, options.stages)
    weights = scheduled(ce_weight).values(step_stage, options.stages)
    _check_ranges(shares, temperatures, weights)
    epochs = options.baseline_epochs(len(profile), batch_size)
    baseline_steps = math.ceil(epochs * len(profile) / batch_size - 1e-9)
    plan = Plan(
        ids=profile.ids,
        visits=visits,
        offsets=offsets,
        step_stage=step_stage,
        student_share=shares,
        distill_temperature=temperatures,
        ce_weight=weights,
        lr_factor=learning_rate.factors(len(step_stage)),
        stages=(),
        batch_size=batch_size,
        curriculum=options.kind,
        seed=seed,
        baseline_steps=baseline_steps,
        baseline_epochs=epochs,
        baseline_lr_mean=float(learning_rate.factors(baseline_steps).mean()),
    )
    return _with_stages(plan, profile, options, order, sizes, num_visits, teacher)


def _subset_sizes(
    profile: DifficultyProfile, options: CurriculumOptions, batch_size: int
) -> IntArray:
    extra = {}
    if "min_examples" in options.entry.options:
        extra["min_examples"] = options.min_examples or batch_size
    elif options.min_examples is not None:
        raise ConfigError(f"The curriculum '{options.kind}' has no option 'min_examples'.")
    pace = bind(CURRICULA, "curriculum", options.kind, extra)
    return pace(profile.running_mean, options.stages)


def _ordered(profile: DifficultyProfile, options: CurriculumOptions, seed: int) -> IntArray:
    order = options.order or options.entry.order
    if order == "easy_first":
        return profile.order
    if order == "hard_first":
        return profile.order[::-1]
    # Stage 0 is no stage: this stream is never used for shuffling.
    return np.random.default_rng([seed, 0]).permutation(profile.order)


def _visits_per_stage(
    sizes: IntArray, options: CurriculumOptions, num_examples: int, batch_size: int
) -> IntArray:
    """How many visits each stage makes; fractions are rounded so that the total stays right."""
    if options.total_steps is not None:
        # One step for each stage, the others in proportion to the sizes.
        free = options.total_steps - options.stages
        shared = np.diff(np.round(np.cumsum(sizes) / sizes.sum() * free), prepend=0)
        return ((1 + shared) * batch_size).astype(np.int64)
    if options.iteration_ratio is not None:
        epochs = options.baseline_epochs(num_examples, batch_size)
        passes = options.iteration_ratio * epochs * num_examples / sizes.sum()
    else:
        passes = options.passes if options.passes is not None else options.entry.passes
    visits = np.diff(np.ceil(np.cumsum(sizes) * passes - 1e-9), prepend=0).astype(np.int64)
    return np.maximum(visits, 1)


def _check_ranges(
    shares: NDArray[np.float64], temperatures: NDArray[np.float64], weights: NDArray[np.float64]
) -> None:
    for name, values in (("student_share", shares), ("ce_weight", weights)):
        if values.min() < 0.0 or values.max() > 1.0:
            raise ConfigError(
                f"{name} must stay in [0, 1]; its schedule runs from {values.min():g} to"
                f" {values.max():g}."
            )
    if temperatures.min() <= 0.0:
        raise ConfigError(
            f"distill_temperature must stay above 0; its schedule reaches {temperatures.min():g}."
        )


def _with_stages(
    plan: Plan,
    profile: DifficultyProfile,
    options: CurriculumOptions,
    order: IntArray,
    sizes: IntArray,
    num_visits: IntArray,
    teacher: str,
) -> Plan:
    """Add the summary of each stage."""
    aims = options.kind == "calibrated" and (options.order or "easy_first") == "easy_first"
    targets = calibrated_targets(profile.running_mean, options.stages) if aims else None
    ordered_scores = profile.scores[order]
    stages = []
    for index, size in enumerate(sizes):
        here = plan.step_stage == index + 1
        signal = (plan.ce_weight[here] < 1.0) & (plan.student_share[here] < 1.0)
        stages.append(
            Stage(
                stage=index + 1,
                num_examples=int(size),
                mean_difficulty=float(ordered_scores[:size].mean()),
                target_difficulty=None if targets is None else float(targets[index]),
                passes=float(num_visits[index] / size),
                steps=int(here.sum()),
                student_share=_mean(plan.student_share[here]),
                distill_temperature=_mean(plan.distill_temperature[here]),
                ce_weight=_mean(plan.ce_weight[here]),
                teacher=teacher if signal.any() else "",
            )
        )
    return Plan(**{**vars(plan), "stages": tuple(stages)})


def _mean(values: NDArray[np.float64]) -> float:
    """The mean; equal values give that value itself, without rounding."""
    return float(values[0] if (values == values[0]).all() else values.mean())
