"""From the words of a recipe to the value of each step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.components import Names, bind, lookup, marks_of
from tutelage.errors import ConfigError
from tutelage.schedules.basic import Schedule, constant
from tutelage.schedules.grid import GRIDS, progress_at
from tutelage.schedules.table import SCHEDULES, ShareMode

Spec = float | int | Mapping[str, Any]
"""A number, or ``{kind: ..., options, per: stage | step, grid: one of GRIDS}``."""


@dataclass(frozen=True)
class ScheduledValue:
    """A schedule with the rule of when it moves.

    Attributes:
        schedule: progress to value.
        per: ``"stage"`` holds the value within a stage, ``"step"`` moves it at every optimizer
            step.
        grid: which progress a stage (or step) has; see ``GRIDS``.
    """

    schedule: Schedule
    per: Literal["stage", "step"] = "stage"
    grid: str = "span"

    def values(self, step_stage: NDArray[np.int64], num_stages: int) -> NDArray[np.float64]:
        """The value of every step.

        Args:
            step_stage: stage number of each step, from 1, shape ``[S]``.
            num_stages: how many stages there are.

        Returns:
            Shape ``[S]``.
        """
        if self.per == "step":
            total = len(step_stage)
            return np.asarray(
                [self.schedule(progress_at(k, total, self.grid)) for k in range(1, total + 1)],
                dtype=np.float64,
            )
        by_stage = np.asarray(
            [
                self.schedule(progress_at(k, num_stages, self.grid))
                for k in range(1, num_stages + 1)
            ],
            dtype=np.float64,
        )
        return by_stage[step_stage - 1]


def words_of(kind: str) -> tuple[str, ...]:
    """What may stand beside the options of a kind of schedule: a share mode has its own grid."""
    return ("per",) if isinstance(SCHEDULES.get(kind), ShareMode) else ("per", "grid")


def scheduled(spec: Spec | ScheduledValue) -> ScheduledValue:
    """Build what a recipe describes.

    Args:
        spec: a number; or a mapping with ``kind`` (a name in ``SCHEDULES``), the options of that
            kind, and optionally ``per`` and ``grid``.

    Raises:
        ConfigError: unknown kind, option, ``per`` or ``grid``, or values that do not fit.
    """
    if isinstance(spec, ScheduledValue):
        return spec
    if isinstance(spec, (int, float)):
        return ScheduledValue(constant(value=float(spec)))
    options = dict(spec) if isinstance(spec, Mapping) else {}
    kind = options.pop("kind", None)
    if kind is None:
        raise ConfigError(f"A schedule is a number, or a mapping that needs a `kind`, got {spec}.")
    per = options.pop("per", "stage")
    if per not in ("stage", "step"):
        raise ConfigError(f"`per` of a schedule is 'stage' or 'step', got '{per}'.")
    row = lookup(SCHEDULES, "schedule", kind)
    grid = row.grid if isinstance(row, ShareMode) else options.pop("grid", "span")
    if grid not in GRIDS:
        raise ConfigError(f"`grid` of a schedule is one of {', '.join(GRIDS)}, got '{grid}'.")
    return ScheduledValue(_build(kind, options), per, grid)


def _build(kind: str, options: dict[str, Any]) -> Schedule:
    try:
        for name, parameter in SCHEDULES[kind].options.items():
            if name in options and Names("schedule") in marks_of(parameter):
                options[name] = [scheduled(part).schedule for part in options[name]]
        return bind(SCHEDULES, "schedule", kind, options)()
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The schedule '{kind}' does not fit: {error}") from error
