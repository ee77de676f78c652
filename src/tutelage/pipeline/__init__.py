"""The pipeline: a recipe carried out, stage by stage, each reading the files of the one before."""

from tutelage.pipeline.cache import Cached, cache
from tutelage.pipeline.run import RunResult, run
from tutelage.pipeline.show import Shown, profile, show_plan

__all__ = [
    "Cached",
    "RunResult",
    "Shown",
    "cache",
    "profile",
    "run",
    "show_plan",
]
