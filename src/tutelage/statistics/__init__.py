"""What numbers of examples can and cannot tell: pure functions, for scores and reports alike.

Intervals by resampling, tests of paired scores, and what several attempts at a question are worth.
"""

from tutelage.statistics.attempts import pass_at_k
from tutelage.statistics.intervals import (
    CONFIDENCE,
    RESAMPLES,
    Difference,
    Interval,
    bootstrap,
    bootstrap_sums,
    draws,
    interval_of_alike,
    paired_difference,
    percentile_interval,
    standard_error,
    wilson_interval,
)
from tutelage.statistics.paired import PairedTest, holm, mcnemar, paired_test, sign_flip, wilcoxon
from tutelage.statistics.power import POWER, examples_needed, smallest_difference
from tutelage.statistics.seeds import SeededDifference, seeded_difference, student_quantile

__all__ = [
    "CONFIDENCE",
    "POWER",
    "RESAMPLES",
    "Difference",
    "Interval",
    "PairedTest",
    "SeededDifference",
    "bootstrap",
    "bootstrap_sums",
    "draws",
    "examples_needed",
    "holm",
    "interval_of_alike",
    "mcnemar",
    "paired_difference",
    "paired_test",
    "pass_at_k",
    "percentile_interval",
    "seeded_difference",
    "sign_flip",
    "smallest_difference",
    "standard_error",
    "student_quantile",
    "wilcoxon",
    "wilson_interval",
]
