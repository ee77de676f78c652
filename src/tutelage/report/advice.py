"""What to try next, from what a run wrote: sentences, each with a command that can be pasted."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import yaml

from tutelage.report.comparison import Comparison, Metric, shown_as
from tutelage.report.quantities import count, percent
from tutelage.report.run import Arm, Run, series
from tutelage.report.verdict import best_control, leading, teacher_warning
from tutelage.statistics import CONFIDENCE

_MORE = 2
"""How many times as many steps are proposed where more may help."""


@dataclass(frozen=True)
class Advice:
    """Something to try: why, and the command, empty where there is none."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class Slope:
    """What validation did between its last two looks.

    Attributes:
        metric: what was looked at.
        steps: the steps of the two looks.
        values: of the metric then.
        chance: by how much two such values may differ by chance alone (95 %); NaN: not known.
        share: of the whole training between the two looks, in (0, 1].
        best: the step of the best look.
    """

    metric: Metric
    steps: tuple[int, int]
    values: tuple[float, float]
    chance: float
    share: float
    best: int

    @property
    def gain(self) -> float:
        """By how much the last value is better than the one before."""
        change = self.values[1] - self.values[0]
        return -change if self.metric.lower_is_better else change

    @property
    def trend(self) -> str:
        """``better``, ``worse``, or ``unclear`` where chance alone may have done it."""
        if self.gain == 0 or (math.isfinite(self.chance) and abs(self.gain) <= self.chance):
            return "unclear"
        return "better" if self.gain > 0 else "worse"


def last_slope(
    rows: Sequence[Mapping[str, Any]], name: str, num_examples: int | None = None
) -> Slope | None:
    """The change between the last two validations; None before there are two.

    Args:
        rows: of ``validation.jsonl``, ascending by step.
        name: of the metric.
        num_examples: how many examples were looked at; None: not known. Of a share of right answers
            it says what is chance: the same examples are asked each time, so this is at most
            1.96 times the root of the sum of both variances p (1 - p) / n.
    """
    steps, values = series(rows, name)
    if len(steps) < 2:
        return None
    metric = shown_as(name, values.tolist())
    before, last = float(values[-2]), float(values[-1])
    chance = math.nan
    if num_examples and metric.scale == 100:
        variance = (before * (1 - before) + last * (1 - last)) / num_examples
        chance = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * math.sqrt(variance)
    best = values.argmin() if metric.lower_is_better else values.argmax()
    return Slope(
        metric,
        (int(steps[-2]), int(steps[-1])),
        (before, last),
        chance,
        float(steps[-1] - steps[-2]) / float(steps[-1]),
        int(steps[best]),
    )


def advice(run: Run, comparison: Comparison) -> tuple[Advice, ...]:
    """What to try next, what matters most first."""
    main = run.main
    if main is None or not main.has_student:
        again = _command(run, [])
        return (Advice("The run is not finished. The same command goes on from there:", again),)
    recipe = _recipe(run)
    found = [
        *_teacher_advice(run, comparison),
        *_step_advice(run, main, recipe, comparison),
        *_control_advice(run, comparison),
        *_seed_advice(run, comparison),
    ]
    return tuple(found)


def _teacher_advice(run: Run, comparison: Comparison) -> list[Advice]:
    """A better teacher, where this one knows no more than what it teaches."""
    if not teacher_warning(comparison):
        return []
    text = "The teacher must know more first, or nothing below matters."
    if len(run.info.get("ladder") or {}) > 1:
        return [Advice(text)]
    return [Advice(text, _command(run, ["teacher.finetune.epochs=3"]))]


def _step_advice(
    run: Run, main: Arm, recipe: Mapping[str, Any], comparison: Comparison
) -> list[Advice]:
    """Whether more steps would help, as the last two validations say."""
    name = _validated(main)
    slope = last_slope(main.validation, name, _validation_size(run, recipe)) if name else None
    if slope is None:
        return [_look(run, main, recipe, comparison)]
    metric = slope.metric
    unit = " %" if metric.scale == 100 else ""
    told = (
        f"In the last {percent(slope.share, 0)} of the steps, validation ({metric.words}) went from"
        f" {metric.text(slope.values[0])}{unit} to {metric.text(slope.values[1])}{unit}"
    )
    total = int(main.plan.get("total_steps") or slope.steps[1])
    more = _command(run, _more_steps(recipe, _MORE * total))
    if slope.trend == "better":
        return [Advice(f"{told}: it was still getting better, so more steps may help.", more)]
    if slope.trend == "worse":
        text = (
            f"{told}: it was getting worse, and was best at step {count(slope.best)} of"
            f" {count(total)}. Fewer steps, or a lower learning rate:"
        )
        return [Advice(text, _command(run, _more_steps(recipe, slope.best)))]
    if math.isfinite(slope.chance):
        told += f", which may be chance (up to {metric.text(slope.chance)} points are)"
    return [Advice(f"{told}: nothing says that more steps would help.")]


def _validated(arm: Arm) -> str:
    """The metric that was looked at while training; empty when none was."""
    return next((name for row in arm.validation for name in row if name != "step"), "")


def _validation_size(run: Run, recipe: Mapping[str, Any]) -> int | None:
    """How many examples each validation looked at; None when it is not known."""
    selection = recipe.get("selection") or {}
    kept = (run.data.get("validation") or {}).get("kept")
    if selection.get("suite") or not kept:
        return None
    return min(int(kept), int(selection.get("limit") or kept))


def _look(run: Run, main: Arm, recipe: Mapping[str, Any], comparison: Comparison) -> Advice:
    """How to find out whether more steps would help, where nobody looked."""
    text = "Nobody looked at the student while it learned, so nothing says if more steps would help"
    if main.validation:
        return Advice(f"{text}: validation was measured once. Look more often:", _often(run, main))
    found, data = leading(comparison), recipe.get("data") or {}
    changes = [f"selection.metric={found[1].name if found else 'log_likelihood'}"]
    if data.get("kind") != "files":
        changes += [] if data.get("validation") else ["data.validation=200"]
    elif not data.get("validation") and not data.get("validation_share"):
        changes.append("data.validation_share=0.05")
    return Advice(f"{text}. Look after each stage:", _command(run, changes))


def _often(run: Run, main: Arm) -> str:
    every = max(1, int(main.plan.get("total_steps") or 10) // 10)
    return _command(run, [f"selection.every={every}"])


def _control_advice(run: Run, comparison: Comparison) -> list[Advice]:
    """Something to compare with, where there is nothing."""
    if best_control(comparison) is not None or leading(comparison) is None:
        return []
    if len(run.arms) > 1:
        return [Advice("The controls are not evaluated yet; go on with:", _command(run, []))]
    text = "There is no control, so nothing says what the method bought. Add plain fine-tuning:"
    return [Advice(text, _command(run, ["controls.sft.extends=sft"]))]


def _seed_advice(run: Run, comparison: Comparison) -> list[Advice]:
    """Another seed: one training run is one draw."""
    if leading(comparison) is None:
        return []
    seed = int((run.info.get("seeds") or {}).get("student", 0))
    text = "This was one training run. Another seed trains the arms alone, and says what luck did:"
    return [Advice(text, _command(run, [f"seeds.student={seed + 1}"]))]


def _more_steps(recipe: Mapping[str, Any], steps: int) -> list[str]:
    """Settings that give a plan so many steps."""
    curriculum, training = recipe.get("curriculum") or {}, recipe.get("training") or {}
    changes = [
        f"curriculum.{name}=null"
        for name in ("passes", "iteration_ratio")
        if curriculum.get(name) is not None
    ]
    if training.get("max_steps") is not None:
        changes.append("training.max_steps=null")
    stages = int(curriculum.get("stages") or 1)
    return [*changes, f"curriculum.total_steps={max(steps, stages)}"]


def _command(run: Run, changes: Sequence[str]) -> str:
    """The command that carries the run's recipe out with changes."""
    words = ["tutelage", "run", f"{run.place}/recipe.yaml"]
    for change in changes:
        words += ["--set", change]
    if not changes:
        words += ["--run-dir", run.place]
    return shlex.join(words)


def _recipe(run: Run) -> dict[str, Any]:
    """The resolved recipe as plain values; empty where it is missing."""
    found = yaml.safe_load(run.recipe) if run.recipe else None
    return found if isinstance(found, dict) else {}
