"""A difficulty profile in numbers."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.ids import Ids
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
            label: {"mean": float(inside.mean()), "count": len(inside)}
            for label, inside in _by_group(scores, groups)
            if label
        },
    }


def _by_group(
    scores: NDArray[np.float64], groups: Sequence[str]
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """The label and the scores of each group, labels sorted."""
    coded = Ids.of(groups).text.dictionary_encode()
    labels, codes = coded.dictionary.to_pylist(), coded.indices.to_numpy()
    parts = np.split(
        scores[np.argsort(codes, kind="stable")],
        np.cumsum(np.bincount(codes, minlength=len(labels)))[:-1],
    )
    yield from sorted(zip(labels, parts, strict=True), key=lambda part: part[0])
