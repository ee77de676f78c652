"""Schedules: functions from progress in [0, 1] to a value, which compose."""

from tutelage.schedules.averages import AVERAGES
from tutelage.schedules.basic import Schedule, constant, cosine, join, linear, steps
from tutelage.schedules.controllers import (
    CONTROLLERS,
    Controller,
    ControllerState,
    without_progress,
)
from tutelage.schedules.grid import GRIDS, progress_at
from tutelage.schedules.learning_rate import LR_SCHEDULES, Course, learning_rate_factors
from tutelage.schedules.spec import ScheduledValue, scheduled, words_of
from tutelage.schedules.table import SCHEDULES
from tutelage.schedules.text_sources import TEXT_CONTROLLERS, Distillm, TextState

__all__ = [
    "AVERAGES",
    "CONTROLLERS",
    "GRIDS",
    "LR_SCHEDULES",
    "SCHEDULES",
    "TEXT_CONTROLLERS",
    "Controller",
    "ControllerState",
    "Course",
    "Distillm",
    "Schedule",
    "ScheduledValue",
    "TextState",
    "constant",
    "cosine",
    "join",
    "learning_rate_factors",
    "linear",
    "progress_at",
    "scheduled",
    "steps",
    "without_progress",
    "words_of",
]
