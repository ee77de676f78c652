"""Controllers: shares that answer to how the training goes. Pure: (state, observation) -> state.

A controller moves a value upwards from a floor that the plan gives. Whose share the value is, its
row in ``CONTROLLERS`` says.
"""

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.components import Component, Limits


@dataclass(frozen=True)
class ControllerState:
    """What a controller remembers.

    Attributes:
        value: the share that it moves, in [0, 1].
        momentum: smoothed relative progress.
        previous: the observation before; None before the first.
    """

    value: float
    momentum: float = 0.0
    previous: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, which give exactly this state back as keywords."""
        return asdict(self)


def momentum(
    state: ControllerState,
    observation: float,
    floor: float,
    *,
    alpha: Annotated[float, Limits(0, 1)] = 5e-4,
    beta: Annotated[float, Limits(0, 1, below=True)] = 0.99,
    end: Annotated[float, Limits(0, 1)] = 1.0,
    observe: Literal["kd", "cross_entropy"] = "kd",
) -> ControllerState:
    r"""TAID's rule: the faster the loss falls, the faster the value rises.

    With :math:`\delta = (L_{prev} - L) / (L_{prev} + 10^{-15})` and
    :math:`m \leftarrow \beta m + (1 - \beta) \delta`:

    .. math:: u \leftarrow \min\big(u_{end}, \max(u_{floor}, u + \alpha\,\sigma(m)\,(1 - u))\big)

    The first observation is only remembered. Without any progress the value still drifts by
    :math:`\alpha (1 - u) / 2`, see :func:`without_progress`. On a floor over the steps with the
    grid ``behind`` this is what TAID's released class does.

    Args:
        state: the state before.
        observation: the loss of an optimizer step, nats per token.
        floor: the scheduled value at the next step; the value never falls below it.
        alpha: largest step.
        beta: how much of the momentum stays.
        end: the value never rises above it.
        observe: what the caller passes as ``observation``, both at the step's temperature and
            without its square: the divergence to the target, or the cross-entropy to it (the
            divergence plus the target's entropy), which TAID's released code uses.

    Returns:
        The state after.

    References:
        Shing et al., TAID, ICLR 2025, arXiv:2501.16937.
    """
    if state.previous is None:
        return ControllerState(min(end, max(floor, state.value)), state.momentum, observation)
    progress = (state.previous - observation) / (state.previous + 1e-15)
    moved = beta * state.momentum + (1.0 - beta) * progress
    # A loss that explodes must not overflow the sigmoid.
    sigmoid = 1.0 / (1.0 + math.exp(-min(max(moved, -60.0), 60.0)))
    value = state.value + alpha * sigmoid * (1.0 - state.value)
    return ControllerState(min(end, max(floor, value)), moved, observation)


def without_progress(
    floor_S: NDArray[np.float64], *, alpha: float = 5e-4, end: float = 1.0, sigmoid: float = 0.5
) -> NDArray[np.float64]:
    r"""The values of ``momentum`` at all steps when the loss stays as it is.

    Args:
        floor_S: the scheduled value of each step.
        alpha: largest step.
        end: the value never rises above it.
        sigmoid: of the momentum; 1 for the most that any losses can bring.

    Returns:
        Shape ``[S]``.
    """
    # What is missing to 1 shrinks by a constant factor with each step, and is at most 1 - floor.
    decay = math.log1p(-min(alpha * sigmoid, 1 - 1e-12))
    moves = np.maximum(np.arange(len(floor_S)), 1) * decay
    with np.errstate(divide="ignore"):
        missing = moves + np.minimum.accumulate(np.log1p(-floor_S) - moves)
    return np.minimum(end, -np.expm1(missing))


@dataclass(frozen=True)
class Controller(Component):
    """A controller and whose share it moves.

    Attributes:
        of: ``"teacher"`` when the value is the teacher's share of the target, which grows in TAID;
            ``"student"`` when it is the student's, which grows in CPD.
    """

    of: Literal["teacher", "student"] = "student"


CONTROLLERS: dict[str, Controller] = {
    "taid": Controller(
        momentum,
        "the teacher's share grows faster while the loss falls (TAID)",
        "Shing et al. 2025, arXiv:2501.16937",
        of="teacher",
    ),
    "adaptive": Controller(
        momentum,
        "the same rule in CPD's direction: the student's share grows",
        "Zhang and Liu 2026, CPD section 6.3",
        of="student",
    ),
}
"""Controllers of the student's share by name; `tutelage ls controllers` prints them."""
