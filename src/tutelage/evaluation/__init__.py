"""Evaluation: scores of generated answers, agreement with the teacher, intervals."""

from tutelage.evaluation.agreement import Agreement, save_agreement, teacher_agreement
from tutelage.evaluation.statistics import PairedDifference, bootstrap_interval, paired_difference
from tutelage.evaluation.suite import (
    Evaluated,
    EvaluationSettings,
    evaluate_answers,
    load_evaluation,
    save_evaluation,
)

__all__ = [
    "Agreement",
    "Evaluated",
    "EvaluationSettings",
    "PairedDifference",
    "bootstrap_interval",
    "evaluate_answers",
    "load_evaluation",
    "paired_difference",
    "save_agreement",
    "save_evaluation",
    "teacher_agreement",
]
