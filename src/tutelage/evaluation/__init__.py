"""Evaluation: suites of questions, scores of generated answers, agreement with the teacher.

A recipe knows the table of suites without what models need: names are imported at their first use.
"""

from typing import TYPE_CHECKING

from tutelage.lazy import lazy_names

if TYPE_CHECKING:
    from tutelage.evaluation.agreement import Agreement, save_agreement, teacher_agreement
    from tutelage.evaluation.compare import (
        Answers,
        PairedComparison,
        compare_answers,
        compare_models,
    )
    from tutelage.evaluation.suite import (
        Evaluated,
        Suite,
        bound_metrics,
        evaluate_answers,
        save_evaluation,
    )
    from tutelage.evaluation.suites import OWN, SUITES, make_suite

_HOMES = {
    "OWN": "suites",
    "SUITES": "suites",
    "Agreement": "agreement",
    "Answers": "compare",
    "Evaluated": "suite",
    "PairedComparison": "compare",
    "Suite": "suite",
    "bound_metrics": "suite",
    "compare_answers": "compare",
    "compare_models": "compare",
    "evaluate_answers": "suite",
    "make_suite": "suites",
    "save_agreement": "agreement",
    "save_evaluation": "suite",
    "teacher_agreement": "agreement",
}

__all__ = [
    "OWN",
    "SUITES",
    "Agreement",
    "Answers",
    "Evaluated",
    "PairedComparison",
    "Suite",
    "bound_metrics",
    "compare_answers",
    "compare_models",
    "evaluate_answers",
    "make_suite",
    "save_agreement",
    "save_evaluation",
    "teacher_agreement",
]

__getattr__ = lazy_names(__name__, _HOMES)
