"""The table of curricula: how much each stage uses, which of it, and its usual passes."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.components import Component
from tutelage.curriculum import draws, pacing, subsets

Order = Literal["easy_first", "hard_first", "random"]


@dataclass(frozen=True)
class Curriculum(Component):
    """A pacing function, what its sizes mean, and defaults.

    Attributes:
        order: which end of the difficulty order the subsets start from.
        passes: how often each stage visits its subset unless the recipe says otherwise.
        subset: which examples a stage has, from the sizes; see ``subsets``.
        draw: how often a stage visits each of its examples, from all difficulties in rising order,
            the number of the stage and that of all stages; None: all alike. See ``draws``.
        targets: mean difficulty that each stage aims at; None when it aims at none.
        by_difficulty: whether difficulty decides anything; where it does not, measuring it again
            would change nothing.
        by_band: the option with a value for each band of difficulty from easy to hard; it is turned
            around where the stages begin with the hard end.
    """

    order: Order = "easy_first"
    passes: float = 1.0
    subset: Callable[..., subsets.Places] = subsets.prefix
    draw: Callable[..., NDArray[np.float64]] | None = None
    targets: Callable[[NDArray[np.float64], int], NDArray[np.float64]] | None = None
    by_difficulty: bool = True
    by_band: str = ""

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """Options of the pacing, of the subset and of the draw."""
        found = super().options
        for function in (self.subset, self.draw):
            if function is not None:
                parameters = inspect.signature(function).parameters.values()
                keywords = [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
                found |= {p.name: p for p in keywords}
        return found


CURRICULA: dict[str, Curriculum] = {
    "calibrated": Curriculum(
        pacing.calibrated,
        "mean difficulty of the subset rises by equal amounts (CPD)",
        "Zhang and Liu 2026, CPD section 3.2",
        passes=2.0,
        targets=pacing.calibrated_targets,
    ),
    "calibrated_anchored": Curriculum(
        pacing.calibrated_anchored,
        "the same from the easiest example's difficulty on, for any scale",
        "after Zhang and Liu 2026, CPD section 3.2",
        passes=2.0,
        targets=pacing.anchored_targets,
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
    "bands": Curriculum(
        pacing.bands,
        "disjoint bands from easy to hard with given shares (CLPD)",
        "Cao et al. 2026, arXiv:2605.11260",
        subset=subsets.band,
        by_band="shares",
    ),
    "shrinking": Curriculum(
        pacing.shrinking,
        "less and less data, mostly the hardest, with a few easy ones (DA-KD)",
        "He et al. 2025, DA-KD, PMLR 267",
        order="hard_first",
        subset=subsets.stratified,
    ),
    "soft": Curriculum(
        pacing.everything,
        "all data in every stage, easy examples more often at first: mean difficulty rises by equal"
        " amounts and nothing is withheld",
        "after Zhang and Liu 2026, CPD section 3.2",
        draw=draws.tilted,
    ),
    "random": Curriculum(
        pacing.everything, "everything at once, shuffled: the plain run", by_difficulty=False
    ),
    "hard_to_easy": Curriculum(
        pacing.linear_growth,
        "subset size rises in a line from the hardest example",
        order="hard_first",
    ),
}
"""Curricula by name, as ``kind`` in a recipe; `tutelage ls curricula` prints them."""
