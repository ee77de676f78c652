"""A model judges pairs of answers: win rates of one model over another.

Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING

from tutelage.lazy import lazy_names

if TYPE_CHECKING:
    from tutelage.evaluation.judge.cost import Estimate
    from tutelage.evaluation.judge.judging import estimate_pairs, judge_pairs, kept_verdicts
    from tutelage.evaluation.judge.length import LengthControlled, length_controlled
    from tutelage.evaluation.judge.prompt import judge_prompt, read_verdict
    from tutelage.evaluation.judge.report import JudgeReport
    from tutelage.evaluation.judge.values import JudgeSettings, Pair, Verdict

_HOMES = {
    "Estimate": "cost",
    "JudgeReport": "report",
    "JudgeSettings": "values",
    "LengthControlled": "length",
    "Pair": "values",
    "Verdict": "values",
    "estimate_pairs": "judging",
    "judge_pairs": "judging",
    "judge_prompt": "prompt",
    "kept_verdicts": "judging",
    "length_controlled": "length",
    "read_verdict": "prompt",
}

__all__ = [
    "Estimate",
    "JudgeReport",
    "JudgeSettings",
    "LengthControlled",
    "Pair",
    "Verdict",
    "estimate_pairs",
    "judge_pairs",
    "judge_prompt",
    "kept_verdicts",
    "length_controlled",
    "read_verdict",
]

__getattr__ = lazy_names(__name__, _HOMES)
