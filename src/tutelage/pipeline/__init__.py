"""The pipeline: a recipe carried out, stage by stage, each reading the files of the one before."""

from tutelage.pipeline.run import RunResult, run
from tutelage.pipeline.show import Shown, profile, show_plan

__all__ = [
    "RunResult",
    "Shown",
    "profile",
    "run",
    "show_plan",
]
