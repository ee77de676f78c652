"""Curricula: pacing (how much), sampling (which, in which order) and the compiled plan."""

from tutelage.curriculum.exposure import TenthExposure, exposure, plan_warnings
from tutelage.curriculum.files import describe_plan, load_plan, plan_folder, save_plan
from tutelage.curriculum.fingerprint import plan_fingerprint
from tutelage.curriculum.options import CurriculumOptions, LearningRate, PlanSettings
from tutelage.curriculum.plan import compile_plan, replan
from tutelage.curriculum.staging import pairs_wanted
from tutelage.curriculum.table import CURRICULA, Curriculum
from tutelage.curriculum.teaching import TEACHER_SCHEDULES

__all__ = [
    "CURRICULA",
    "TEACHER_SCHEDULES",
    "Curriculum",
    "CurriculumOptions",
    "LearningRate",
    "PlanSettings",
    "TenthExposure",
    "compile_plan",
    "describe_plan",
    "exposure",
    "load_plan",
    "pairs_wanted",
    "plan_fingerprint",
    "plan_folder",
    "plan_warnings",
    "replan",
    "save_plan",
]
