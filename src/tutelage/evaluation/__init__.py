"""Evaluation: scores of generated answers, agreement with the teacher, intervals."""

from tutelage.evaluation.agreement import Agreement, save_agreement, teacher_agreement
from tutelage.evaluation.suite import (
    Evaluated,
    EvaluationSettings,
    evaluate_answers,
    save_evaluation,
)

__all__ = [
    "Agreement",
    "Evaluated",
    "EvaluationSettings",
    "evaluate_answers",
    "save_agreement",
    "save_evaluation",
    "teacher_agreement",
]
