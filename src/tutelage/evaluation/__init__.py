"""Evaluation: suites of questions, scores of generated answers, agreement with the teacher.

A recipe knows the table of suites without what models need: names are imported at their first use.
"""

from typing import TYPE_CHECKING

from tutelage.lazy import lazy_names

if TYPE_CHECKING:
    from tutelage.evaluation.agreement import Agreement, save_agreement, teacher_agreement
    from tutelage.evaluation.answering import Sample
    from tutelage.evaluation.compare import (
        Answers,
        PairedComparison,
        compare_answers,
        compare_models,
    )
    from tutelage.evaluation.evaluating import (
        Evaluated,
        evaluate,
        evaluate_suite,
        save_evaluation,
    )
    from tutelage.evaluation.metric import ByVerifier, Metric, bound_metrics
    from tutelage.evaluation.question import Question, questions_fingerprint, questions_of
    from tutelage.evaluation.suite import Suite
    from tutelage.evaluation.suites.table import OWN, SUITES, make_suite

_HOMES = {
    "OWN": "suites.table",
    "SUITES": "suites.table",
    "Agreement": "agreement",
    "Answers": "compare",
    "ByVerifier": "metric",
    "Evaluated": "evaluating",
    "Metric": "metric",
    "PairedComparison": "compare",
    "Question": "question",
    "Sample": "answering",
    "Suite": "suite",
    "bound_metrics": "metric",
    "compare_answers": "compare",
    "compare_models": "compare",
    "evaluate": "evaluating",
    "evaluate_suite": "evaluating",
    "make_suite": "suites.table",
    "questions_fingerprint": "question",
    "questions_of": "question",
    "save_agreement": "agreement",
    "save_evaluation": "evaluating",
    "teacher_agreement": "agreement",
}

__all__ = [
    "OWN",
    "SUITES",
    "Agreement",
    "Answers",
    "ByVerifier",
    "Evaluated",
    "Metric",
    "PairedComparison",
    "Question",
    "Sample",
    "Suite",
    "bound_metrics",
    "compare_answers",
    "compare_models",
    "evaluate",
    "evaluate_suite",
    "make_suite",
    "questions_fingerprint",
    "questions_of",
    "save_agreement",
    "save_evaluation",
    "teacher_agreement",
]

__getattr__ = lazy_names(__name__, _HOMES)
