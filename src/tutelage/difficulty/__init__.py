"""Difficulty: scores, how they are measured, and profiles as files."""

from tutelage.difficulty.compare import ProfilePair, compare_profiles, spearman, subset_overlap
from tutelage.difficulty.estimate import EstimateReport, estimate_scores, sample_ids
from tutelage.difficulty.files import load_profile, save_profile
from tutelage.difficulty.fusion import rank_fusion
from tutelage.difficulty.measure import example_losses
from tutelage.difficulty.measurements import ExampleLosses, GivenMeasurements, Measurements
from tutelage.difficulty.rationale import count_steps
from tutelage.difficulty.summary import summarize
from tutelage.difficulty.table import DIFFICULTIES, needs, score_examples

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
