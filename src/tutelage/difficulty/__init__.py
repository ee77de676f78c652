"""Difficulty: scores, how they are measured, and profiles as files."""

from tutelage.difficulty.files import load_profile, save_profile
from tutelage.difficulty.measure import ExampleLosses, example_losses
from tutelage.difficulty.scores import student_loss
from tutelage.difficulty.summary import summarize
from tutelage.difficulty.table import DIFFICULTIES

__all__ = [
    "DIFFICULTIES",
    "ExampleLosses",
    "example_losses",
    "load_profile",
    "save_profile",
    "student_loss",
    "summarize",
]
