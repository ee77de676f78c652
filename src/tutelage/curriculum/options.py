"""How the data is staged, and the course of the learning rate."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.components import unknown_option
from tutelage.curriculum.sampling import REMAINDERS, Remainder
from tutelage.curriculum.subsets import Places
from tutelage.curriculum.table import CURRICULA, ORDERS, Curriculum, Order
from tutelage.errors import ConfigError, unknown_name
from tutelage.schedules import learning_rate_factors
from tutelage.types import DifficultyProfile

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
        restart: every stage begins with a new optimizer and a learning-rate course of its own, as
            POCL's do.
        options: further options of the curriculum, such as ``shares`` of ``bands``.
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
    restart: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

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
        for name in self.options:
            if name not in self.entry.options:
                raise unknown_option("curriculum", self.kind, name, self.entry.options)
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
        """Learning rate of each step as a part of its peak, in one course over all steps."""
        return learning_rate_factors(
            self.schedule, total_steps, warmup_ratio=self.warmup_ratio, min_ratio=self.min_ratio
        )
