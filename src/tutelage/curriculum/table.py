"""The table of curricula: a pacing function, the end it starts from, and its usual passes."""

from dataclasses import dataclass
from typing import Literal

from tutelage.components import Component
from tutelage.curriculum import pacing

Order = Literal["easy_first", "hard_first", "random"]
ORDERS: tuple[Order, ...] = ("easy_first", "hard_first", "random")


@dataclass(frozen=True)
class Curriculum(Component):
    """A pacing function with its defaults.

    Attributes:
        order: which end of the difficulty order the subsets are prefixes of.
        passes: how often each stage visits its subset unless the recipe says otherwise.
    """

    order: Order = "easy_first"
    passes: float = 1.0


CURRICULA: dict[str, Curriculum] = {
    "calibrated": Curriculum(
        pacing.calibrated,
        "mean difficulty of the subset rises by equal amounts (CPD)",
        "Zhang and Liu 2026, CPD section 3.2",
        passes=2.0,
    ),
    "baby_steps": Curriculum(
        pacing.baby_steps,
        "prefixes that grow by equal numbers, many passes each (POCL)",
        "Liu and Zhang 2025, arXiv:2506.05695",
        passes=8.0,
    ),
    "linear_growth": Curriculum(
        pacing.linear_growth,
        "subset size rises in a line",
        "Zhang and Liu 2026, CPD section 6.3",
    ),
    "cosine_growth": Curriculum(
        pacing.cosine_growth,
        "subset size rises along a cosine",
        "Zhang and Liu 2026, CPD section 6.3",
    ),
    "random": Curriculum(pacing.everything, "everything at once, shuffled: the plain run"),
    "hard_to_easy": Curriculum(
        pacing.linear_growth,
        "subset size rises in a line from the hardest example",
        order="hard_first",
    ),
}
