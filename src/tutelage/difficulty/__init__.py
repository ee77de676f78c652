"""Difficulty: scores, how they are measured, and profiles as files.

What needs no model does not load what models need: names are imported at their first use.
"""

from typing import TYPE_CHECKING

from tutelage.lazy import lazy_names

if TYPE_CHECKING:
    from tutelage.difficulty.compare import (
        ProfilePair,
        compare_profiles,
        spearman,
        subset_overlap,
    )
    from tutelage.difficulty.estimate import EstimateReport, estimate_scores, sample_ids
    from tutelage.difficulty.files import load_profile, save_profile
    from tutelage.difficulty.fusion import rank_fusion
    from tutelage.difficulty.measure import example_losses
    from tutelage.difficulty.measurements import ExampleLosses, GivenMeasurements, Measurements
    from tutelage.difficulty.rationale import count_steps
    from tutelage.difficulty.summary import summarize
    from tutelage.difficulty.table import DIFFICULTIES, needs, score_examples

_HOMES = {
    "DIFFICULTIES": "table",
    "EstimateReport": "estimate",
    "ExampleLosses": "measurements",
    "GivenMeasurements": "measurements",
    "Measurements": "measurements",
    "ProfilePair": "compare",
    "compare_profiles": "compare",
    "count_steps": "rationale",
    "estimate_scores": "estimate",
    "example_losses": "measure",
    "load_profile": "files",
    "needs": "table",
    "rank_fusion": "fusion",
    "sample_ids": "estimate",
    "save_profile": "files",
    "score_examples": "table",
    "spearman": "compare",
    "subset_overlap": "compare",
    "summarize": "summary",
}

__all__ = [
    "DIFFICULTIES",
    "EstimateReport",
    "ExampleLosses",
    "GivenMeasurements",
    "Measurements",
    "ProfilePair",
    "compare_profiles",
    "count_steps",
    "estimate_scores",
    "example_losses",
    "load_profile",
    "needs",
    "rank_fusion",
    "sample_ids",
    "save_profile",
    "score_examples",
    "spearman",
    "subset_overlap",
    "summarize",
]

__getattr__ = lazy_names(__name__, _HOMES)
