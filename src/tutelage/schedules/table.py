"""The table of all schedules."""

from dataclasses import dataclass

from tutelage.components import Component
from tutelage.schedules.basic import capped, constant, cosine, join, linear, steps, whole

CPD = "Zhang and Liu 2026"


@dataclass(frozen=True)
class ShareMode(Component):
    """A schedule of the student's share, named with the grid that it goes by.

    Attributes:
        grid: which progress stage e of n has; see ``GRIDS``.
    """

    grid: str = "end"


SCHEDULES: dict[str, Component] = {
    "constant": Component(constant, "the same value throughout"),
    "linear": Component(linear, "a straight line from start to end"),
    "cosine": Component(cosine, "half a cosine wave from start to end, flat at both ends"),
    "steps": Component(steps, "equal spans with one value each"),
    "join": Component(join, "schedules one after another"),
    "paper": ShareMode(
        whole, "student_share only: e / n: as CPD prints it; the last stage has no teacher", CPD
    ),
    "shifted": ShareMode(
        whole,
        "student_share only: (e - 1) / n: begins with the teacher alone and keeps it to the last"
        " stage",
        CPD,
        grid="start",
    ),
    "capped": ShareMode(
        capped, "student_share only: max * e / n: as printed, but never beyond max", CPD
    ),
}
"""Schedules by name, as ``kind`` in a recipe; `tutelage ls schedules` prints them."""
