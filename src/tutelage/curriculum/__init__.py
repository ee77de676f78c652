"""Curricula: pacing (how much), sampling (which, in which order) and the compiled plan."""

from tutelage.curriculum.exposure import DecileExposure, exposure, plan_warnings
from tutelage.curriculum.plan import CurriculumOptions, LearningRate, compile_plan
from tutelage.curriculum.store import describe_plan, load_plan, plan_fingerprint, save_plan
from tutelage.curriculum.table import CURRICULA, Curriculum

__all__ = [
    "CURRICULA",
    "Curriculum",
    "CurriculumOptions",
    "DecileExposure",
    "LearningRate",
    "compile_plan",
    "describe_plan",
    "exposure",
    "load_plan",
    "plan_fingerprint",
    "plan_warnings",
    "save_plan",
]
