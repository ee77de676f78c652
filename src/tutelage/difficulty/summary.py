"""A difficulty profile in numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tutelage.types import DifficultyProfile

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def summarize(profile: DifficultyProfile, groups: Sequence[str], unit: str) -> dict[str, Any]:
    """Mean, spread and quantiles of the scores, and the mean of each group.

    Args:
        profile: the profile.
        groups: the group of each example, in the order of the profile; "" for none.
        unit: unit of the scores.
    """
    scores = profile.scores
    labels = np.asarray(groups)
    return {
        "measure": profile.measure,
        "unit": unit,
        "num_examples": len(profile),
        "mean": float(scores.mean()),
        "std": float(scores.std()),
        "min": float(scores.min()),
        "max": float(scores.max()),
        "quantiles": {str(q): float(np.quantile(scores, q)) for q in QUANTILES},
        "groups": {
            str(label): {
                "mean": float(scores[labels == label].mean()),
                "count": int((labels == label).sum()),
            }
            for label in sorted(set(groups))
            if label
        },
    }
