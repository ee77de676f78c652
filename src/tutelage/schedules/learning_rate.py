"""Learning-rate factors of a whole run, equal to those of the schedulers in transformers."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import unknown_name

Course = Literal["cosine", "linear", "constant"]
"""A course of the learning rate after the warm-up; see ``LR_SCHEDULES``."""
LR_SCHEDULES: dict[Course, str] = {
    "constant": "the peak throughout, after the warm-up",
    "linear": "from the peak down in a line",
    "cosine": "from the peak down along half a cosine wave",
}
"""Courses of the learning rate by name, with what each does."""


def learning_rate_factors(
    kind: Course, total_steps: int, *, warmup_ratio: float = 0.0, min_ratio: float = 0.0
) -> NDArray[np.float64]:
    r"""Learning rate of each step as a part of its peak.

    With w warm-up steps, step s (from 0) has :math:`s / w` for s < w; after that, with
    :math:`x = (s - w) / (S - w)`, the schedule runs from 1 at x = 0 towards ``min_ratio`` at x = 1.

    Args:
        kind: one of ``LR_SCHEDULES``.
        total_steps: S.
        warmup_ratio: part of the steps that warm up, in [0, 1); w is rounded up.
        min_ratio: where ``linear`` and ``cosine`` end, as a part of the peak.

    Returns:
        Factors, shape ``[S]``.

    Raises:
        ConfigError: the kind is unknown.
    """
    if kind not in LR_SCHEDULES:
        raise unknown_name("learning-rate schedule", kind, LR_SCHEDULES)
    warmup_steps = math.ceil(warmup_ratio * total_steps)
    step = np.arange(total_steps, dtype=np.float64)
    x = np.clip((step - warmup_steps) / max(total_steps - warmup_steps, 1), 0.0, 1.0)
    if kind == "constant":
        factor = np.ones_like(x)
    elif kind == "linear":
        factor = 1.0 - x
    else:
        factor = (1.0 + np.cos(np.pi * x)) / 2.0
    factor = min_ratio + (1.0 - min_ratio) * factor
    return np.where(step < warmup_steps, step / max(warmup_steps, 1), factor)
