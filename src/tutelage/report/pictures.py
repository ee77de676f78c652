"""Pictures of a profile and of a plan as PNG files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.curriculum.files import SCHEDULED
from tutelage.report import Picture, exposure_figure, plan_figure, profile_figure
from tutelage.types import DifficultyProfile, Plan


def profile_png(path: Path, profile: DifficultyProfile, unit: str) -> None:
    """The running mean of difficulty, and its distribution (CPD Fig. 2c)."""
    profile_figure(profile.scores, unit=unit).save_png(path)


def plan_png(
    path: Path, description: Mapping[str, Any], plan: Plan, unit: str, scores: Any
) -> None:
    """The stages on the profile, the schedules over the steps, and the exposure by tenth."""
    steps = {name: getattr(plan, name) for name in SCHEDULED}
    stages = description["stages"]
    parts = (
        profile_figure(scores, unit=unit, stages=stages),
        plan_figure(stages, steps),
        exposure_figure(description["exposure"]),
    )
    panels = (parts[0].panels[0], *parts[1].panels, *parts[2].panels)
    Picture("plan", "The plan before it runs.", panels).save_png(path)
