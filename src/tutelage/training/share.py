"""The student's share of the target, when a controller moves it while training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.components import bind
from tutelage.files import atomic_write_json, read_json
from tutelage.schedules import CONTROLLERS, ControllerState, without_progress
from tutelage.types import Plan

FILE = "controller.json"
"""The controller's state in a checkpoint."""


class AdaptiveShare:
    """A controller that follows a plan; it is moved once for every optimizer step and never else.

    Args:
        spec: ``{kind: name in CONTROLLERS, options}``.
        plan: its ``student_share`` is what the controller starts from: the share goes at least as
            far in the controller's direction as the plan says.

    Raises:
        ConfigError: unknown controller or option.
    """

    def __init__(self, spec: Mapping[str, Any], plan: Plan) -> None:
        options = {name: value for name, value in spec.items() if name != "kind"}
        self._move = bind(CONTROLLERS, "controller", spec["kind"], options)
        self._limits = {k: float(v) for k, v in options.items() if k in ("alpha", "end")}
        self._of_teacher = CONTROLLERS[spec["kind"]].of == "teacher"
        self._plan = plan
        self.observes_cross_entropy = options.get("observe") == "cross_entropy"
        self.state = ControllerState(self._floor(0))

    def _floor(self, step: int) -> float:
        share = float(self._plan.student_share[min(step, self._plan.total_steps - 1)])
        return 1.0 - share if self._of_teacher else share

    def student_share(self, step: int) -> float:
        """The student's share at a step (from 0)."""
        value = max(self.state.value, self._floor(step))
        return 1.0 - value if self._of_teacher else value

    def observe(self, loss: float, step: int) -> None:
        """Move after a step (from 0) whose distillation lost ``loss`` nats per token.

        A loss at another temperature is another quantity: the first one of a stage with a new
        temperature is only remembered.
        """
        if self._new_temperature(step):
            self.state = replace(self.state, previous=None)
        self.state = self._move(self.state, loss, self._floor(step + 1))

    def _new_temperature(self, step: int) -> bool:
        stage, temperature = self._plan.step_stage, self._plan.distill_temperature
        return (
            step > 0
            and stage[step] != stage[step - 1]
            and temperature[step] != temperature[step - 1]
        )

    def shares_without_progress(self, *, sigmoid: float = 0.5) -> NDArray[np.float64]:
        """The student's share at every step when the loss stays as it is, shape ``[S]``.

        Args:
            sigmoid: of the controller's momentum; 1 for as far as any losses can move it.
        """
        shares = self._plan.student_share
        floors = 1.0 - shares if self._of_teacher else shares
        values = without_progress(floors, **self._limits, sigmoid=sigmoid)
        values = np.maximum(values, floors)
        return 1.0 - values if self._of_teacher else values

    def save(self, folder: str | Path) -> None:
        """Write the state into a checkpoint."""
        atomic_write_json(Path(folder) / FILE, self.state.as_dict())

    def load(self, folder: str | Path) -> None:
        """Take the state from a checkpoint."""
        self.state = ControllerState(**read_json(Path(folder) / FILE))
