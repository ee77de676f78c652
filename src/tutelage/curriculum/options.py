"""What a plan is compiled from: how the data is staged, and what is scheduled."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.components import bind, unknown_option
from tutelage.curriculum.sampling import Remainder
from tutelage.curriculum.subsets import Places
from tutelage.curriculum.table import CURRICULA, Curriculum, Order
from tutelage.curriculum.weights import EXAMPLE_WEIGHTS
from tutelage.errors import ConfigError, unknown_name
from tutelage.schedules import Course, ScheduledValue, learning_rate_factors, scheduled
from tutelage.schedules.spec import Spec
from tutelage.settings import check_settings, count, setting
from tutelage.types import DifficultyProfile

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

LENGTHS = ("passes", "iteration_ratio", "total_steps")
"""Fields of which one is given: each sets the number of updates."""

OF_THE_KIND = ("passes", "order", "min_examples", "weights")
"""Fields whose default is the kind's own: what is given for one kind says nothing of another."""


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
        restart: every stage begins with a new optimizer and a learning-rate course of its own, as
            POCL's do.
        weights: ``{kind: name in EXAMPLE_WEIGHTS, options}``: how much each example counts in the
            loss of a step, by its difficulty; None: all alike.
        options: further options of the curriculum, such as ``shares`` of ``bands``.
    """

    kind: str = setting("calibrated", "Name of a curriculum; see `tutelage ls`.")
    stages: int = count(20, "Number of stages.", le=10_000)
    passes: float | None = setting(None, "Visits of a stage to its subset.", gt=0, le=1e6)
    iteration_ratio: float | None = setting(
        None, "Instead of passes: visits as a part of the plain run's.", gt=0, le=1e6
    )
    total_steps: int | None = count(None, "Instead of both: optimizer steps.", le=100_000_000)
    epochs: float | None = setting(
        None, "Passes of the plain run; None: total_steps or stages.", gt=0, le=1e6
    )
    order: Order | None = setting(
        None, "Which end the subsets grow from; None: the curriculum's own."
    )
    min_examples: int | None = count(None, "Smallest calibrated subset; None: the batch size.")
    remainder: Remainder = setting("carry", "What happens to visits that do not fill a batch.")
    restart: bool = setting(
        False, "Begin every stage with a new optimizer and a new course of learning rates."
    )
    weights: Mapping[str, Any] | None = setting(
        None, "How much each example counts, by its difficulty; see `tutelage ls example_weights`."
    )
    options: Mapping[str, Any] = setting({}, "Further options of the curriculum.")

    def __post_init__(self) -> None:
        if self.kind not in CURRICULA:
            raise unknown_name("curriculum", self.kind, CURRICULA)
        check_settings(self)
        given = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ConfigError(
                f"give one of {' and '.join(given)}: each sets the number of updates. Leave the"
                " others out (a value that is inherited goes with null)"
            )
        if self.total_steps is not None and self.total_steps < self.stages:
            raise ConfigError(
                f"total_steps={self.total_steps} gives some of the {self.stages} stages no step:"
                f" set curriculum.stages to {self.total_steps} or less, or more steps"
            )
        for name in self.options:
            if name not in self.entry.options:
                raise unknown_option("curriculum", self.kind, name, self.entry.options)

    def baseline_epochs(self, num_examples: int, batch_size: int) -> float:
        """Passes of the plain run: as told, else as many updates as told, else one each stage."""
        if self.epochs is not None:
            return float(self.epochs)
        if self.total_steps is not None:
            return self.total_steps * batch_size / num_examples
        return float(self.stages)

    def _options_of(self, function: Callable[..., Any]) -> dict[str, Any]:
        known = inspect.signature(function).parameters
        return {name: value for name, value in self.options.items() if name in known}

    def sizes(self, profile: DifficultyProfile, batch_size: int) -> IntArray:
        """What the curriculum's pacing gives for a profile."""
        options = self._options_of(self.entry.function)
        by_band = self.entry.by_band
        if options.get(by_band) and (self.order or self.entry.order) == "hard_first":
            options[by_band] = list(options[by_band])[::-1]
        if "min_examples" in self.entry.options:
            options["min_examples"] = self.min_examples or batch_size
        elif self.min_examples is not None:
            raise ConfigError(f"The curriculum '{self.kind}' has no option 'min_examples'.")
        return self.entry.function(profile.running_mean, self.stages, **options)

    def subset(self, num_examples: int, sizes: IntArray, stage: int, seed: int) -> Places:
        """Places of the examples of a stage in the order of the curriculum."""
        options = self._options_of(self.entry.subset)
        return self.entry.subset(num_examples, sizes, stage, seed, **options)

    def draw(self, profile: DifficultyProfile, stage: int) -> FloatArray | None:
        """How often a stage visits the examples, in the order of the curriculum; None: all alike.

        In random order the weights are those of the easy-first one, of other examples.
        """
        if self.entry.draw is None:
            return None
        scores = profile.sorted_scores
        if (self.order or self.entry.order) == "hard_first":
            scores = -scores[::-1]
        return self.entry.draw(scores, stage, self.stages, **self._options_of(self.entry.draw))

    def example_weights(self, profile: DifficultyProfile) -> FloatArray | None:
        """How much each example counts, in the order of the profile; None: all alike."""
        if self.weights is None:
            return None
        options = dict(self.weights)
        weigh = bind(EXAMPLE_WEIGHTS, "example weight", options.pop("kind"), options)
        places = np.empty(len(profile))
        places[profile.order] = (np.arange(len(profile)) + 0.5) / len(profile)
        return weigh(profile.scores, places)

    @property
    def asks_difficulty(self) -> bool:
        """Whether difficulty decides anything: which examples come when, or what they count."""
        return self.entry.by_difficulty or self.weights is not None

    @property
    def entry(self) -> Curriculum:
        """The row of ``CURRICULA``."""
        return CURRICULA[self.kind]


@dataclass(frozen=True)
class LearningRate:
    """The learning rate over the run; see ``schedules.learning_rate_factors``."""

    schedule: Course = setting("cosine", "Its course.")
    warmup_ratio: float = setting(0.0, "Part of the steps that warm up.", ge=0, lt=1)
    min_ratio: float = setting(0.0, "Where the course ends, as a part of the peak.", ge=0, le=1)

    def __post_init__(self) -> None:
        check_settings(self)

    def factors(self, total_steps: int) -> NDArray[np.float64]:
        """Learning rate of each step as a part of its peak, in one course over all steps."""
        return learning_rate_factors(
            self.schedule, total_steps, warmup_ratio=self.warmup_ratio, min_ratio=self.min_ratio
        )


@dataclass(frozen=True)
class PlanSettings:
    """All that a plan is compiled from, besides the profile.

    Attributes:
        curriculum: how the data is staged.
        batch_size: examples of one optimizer step over all processes.
        student_share: schedule of the student's share in the target; see ``schedules.scheduled``.
        distill_temperature: schedule of the temperature.
        ce_weight: schedule of the weight of cross-entropy.
        second_share: schedule of the share that a second divergence has in distillation.
        token_share: schedule of the share of each answer's tokens that is learned from.
        on_policy: schedule of the probability that a step trains on the student's own answers; such
            a step has no cross-entropy.
        learning_rate: course of the learning rate; a cosine to 0 by default.
        teachers: names of the teachers from weak to strong.
        teacher_schedule: name, or ``{kind: name, ...}``, in ``TEACHER_SCHEDULES``.
        supervision: ``"text"`` when examples carry answers that a teacher wrote, each example its
            own; ``"logits"`` when steps take distributions from a teacher, each step from one.
        seed: seed of all drawing and shuffling.

    Raises:
        ConfigError: a value out of its range, or no schedule.
    """

    curriculum: CurriculumOptions = field(default_factory=CurriculumOptions)
    _: KW_ONLY
    batch_size: int = count(MISSING, "Examples of a step, over all processes.")
    student_share: Spec | ScheduledValue = setting(
        0.0, "Share of the student in the target.", limits=(0.0, 1.0)
    )
    distill_temperature: Spec | ScheduledValue = setting(
        1.0, "Softens teacher and student.", limits=(0.001, 1000.0)
    )
    ce_weight: Spec | ScheduledValue = setting(
        0.0, "Weight of cross-entropy; KD has the rest.", limits=(0.0, 1.0)
    )
    second_share: Spec | ScheduledValue = setting(
        0.0, "Share of the second divergence in distillation.", limits=(0.0, 1.0)
    )
    token_share: Spec | ScheduledValue = setting(
        1.0, "Share of each answer's tokens that is learned from.", limits=(0.001, 1.0)
    )
    on_policy: Spec | ScheduledValue = setting(
        0.0, "Share of the steps on the student's own answers.", limits=(0.0, 1.0)
    )
    learning_rate: LearningRate = field(default_factory=LearningRate)
    teachers: Sequence[str] = setting(("teacher",), "Names of the teachers from weak to strong.")
    teacher_schedule: Mapping[str, Any] | str = setting(
        "strongest", "Which teacher of the ladder speaks when."
    )
    supervision: Literal["logits", "text"] = setting(
        "logits", "Whether steps have a teacher, or examples the answer of one."
    )
    seed: int = setting(0, "Seed of all drawing and shuffling.", ge=0)

    def __post_init__(self) -> None:
        check_settings(self)
        for name in LIMITS:
            self.schedule_of(name)

    def schedule_of(self, name: str) -> ScheduledValue:
        """The schedule of one of ``LIMITS``."""
        return scheduled(getattr(self, name))


LIMITS: dict[str, tuple[float, float]] = {
    one.name: one.metadata["limits"] for one in fields(PlanSettings) if one.metadata.get("limits")
}
"""What a plan schedules, with the least and the most that it may be."""

LOSS_VALUES = tuple(name for name in LIMITS if name != "on_policy")
"""What it schedules of the loss: numbers of a step, with these names wherever there are steps."""

AS_IF_NOT_THERE: dict[str, float] = {"second_share": 0.0, "token_share": 1.0}
"""Of these the ones that do nothing at one value: a plan with it everywhere is one without them."""


def range_fault(name: str, least: float, most: float) -> str:
    """What the values of a schedule must be and are not; empty when they are all right.

    Args:
        name: one of ``LIMITS``.
        least: of its values.
        most: of its values.
    """
    low, high = LIMITS[name]
    if low <= least and most <= high:
        return ""
    reach = f"{least:g}" if least == most else f"{least:g} to {most:g}"
    return f"must stay between {low:g} and {high:g}, and is {reach}."
