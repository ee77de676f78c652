"""The result of a run in sentences, computed from its numbers, whoever wins."""

import math

import numpy as np
from numpy.typing import NDArray

from tutelage.evaluation.kept import clusters_of
from tutelage.report.comparison import Comparison, Metric, Model
from tutelage.report.quantities import count
from tutelage.statistics import (
    Interval,
    bootstrap_sums,
    examples_needed,
    paired_difference,
    smallest_difference,
    standard_error,
)

NO_RESULT = "The main arm has not been evaluated yet, so there is no result."
_TOO_MANY = 1_000_000
"""A difference that needs more test examples than that is none that anybody will notice."""


def verdict(comparison: Comparison) -> tuple[str, ...]:
    """The result in sentences, computed from the numbers, whoever wins.

    Returns:
        One sentence or more; the last say how the main arm did against the best other arm.
    """
    return (*worked(comparison), *worth(comparison))


def leading(comparison: Comparison) -> tuple[Model, Metric] | None:
    """The main arm and the metric that counts; None before it was evaluated."""
    main = comparison.of_kind("main")
    if main is None or not comparison.metrics or comparison.metrics[0].name not in main.scores:
        return None
    return main, comparison.metrics[0]


def worked(comparison: Comparison) -> tuple[str, ...]:
    """Whether distillation worked: what the main arm reaches, and how much of the way that is."""
    found = leading(comparison)
    if found is None:
        return (NO_RESULT,)
    main, metric = found
    score = main.scores[metric.name]
    interval = f" (95 % interval {metric.interval(score)})" if score.known else ""
    unit = " %" if metric.scale == 100 else ""
    sentences = [f"{main.name} reaches {metric.text(score.mean)}{unit} {metric.words}{interval}."]
    gap = "" if teacher_warning(comparison) else _gap_closed(comparison, metric)
    return (*sentences, gap) if gap else tuple(sentences)


def worth(comparison: Comparison) -> tuple[str, ...]:
    """How the main arm did against the best control; empty where there is no other arm."""
    found = leading(comparison)
    best = best_control(comparison)
    if found is None or best is None:
        return ()
    main, metric = found
    others = [m for m in comparison.arms if m is not main and metric.name in m.scores]
    sentences = [_against(metric, main, best, len(others))]
    difference = best.differences.get(metric.name)
    if difference is not None and difference.interval.known:
        power = _power(metric, main, best, difference.interval)
        sentences += [power] if power else []
    return tuple(sentences)


def best_control(comparison: Comparison) -> Model | None:
    """The other arm with the best score; None where there is none."""
    found = leading(comparison)
    if found is None:
        return None
    main, metric = found
    sign = -1 if metric.lower_is_better else 1
    others = [m for m in comparison.arms if m is not main and metric.name in m.scores]
    return max(others, key=lambda model: sign * model.scores[metric.name].mean, default=None)


def _power(metric: Metric, main: Model, other: Model, difference: Interval) -> str:
    """How many test examples would tell two arms apart that these cannot; else empty."""
    if difference.excludes_zero:
        return ""
    shared, (ours, theirs) = shared_scores(metric.name, main, other)
    clusters = clusters_of(main.evaluated.answers)
    error = standard_error(ours - theirs, [clusters.get(i, "") for i in shared])
    if not math.isfinite(error) or error == 0:
        return ""
    unit = " points" if metric.scale == 100 else ""
    size = metric.text(smallest_difference(error))
    able = f"Four times in five, {count(len(shared))} test examples show a difference of {size}"
    needed = examples_needed(difference.mean, error, len(shared))
    if needed is None or needed > _TOO_MANY:
        return f"{able}{unit} or more."
    # Rounded up to two digits: an estimate from an estimate knows no more.
    step = 10 ** max(0, len(str(needed)) - 2)
    return (
        f"{able}{unit} or more; for one as small as this it takes about"
        f" {count(-(-needed // step) * step)}."
    )


def shared_scores(metric: str, *models: Model) -> tuple[list[str], tuple[NDArray[np.float64], ...]]:
    """Ids that all models have a score for, sorted, and the scores of each model, shape ``[N]``."""
    values = [model.evaluated.values(metric) for model in models]
    shared = sorted(set.intersection(*(set(v) for v in values)))
    return shared, tuple(np.array([v[i] for i in shared], dtype=np.float64) for v in values)


def _against(metric: Metric, main: Model, other: Model, num_others: int) -> str:
    """How the main arm did against the best control."""
    control = "the best control" if num_others > 1 else "the control"
    difference = other.differences.get(metric.name)
    if difference is None:
        return (
            f"{other.name}, {control}, has {metric.text(other.scores[metric.name].mean)}; the two"
            " share no test example, so there is no paired difference."
        )
    value = difference.interval
    ahead = value.mean < 0 if metric.lower_is_better else value.mean > 0
    unit = " points" if metric.scale == 100 else ""
    size = metric.text(abs(value.mean))
    ends = f" (95 % interval of the paired difference {metric.interval(value, sign=True)})"
    if value.mean == 0:
        return f"{other.name}, {control}, scores exactly the same."
    if not value.known:
        return f"{main.name} is {'ahead of' if ahead else 'behind'} {other.name} by {size}{unit}."
    if not value.excludes_zero:
        word = "ahead of" if ahead else "behind"
        return (
            f"{main.name} is {size}{unit} {word} {other.name}, {control}, but the interval includes"
            f" zero{ends}: these test examples cannot tell the two apart."
        )
    word = "beats" if ahead else "loses to"
    return f"{main.name} {word} {other.name}, {control}, by {size}{unit}{ends}."


def teacher_warning(comparison: Comparison) -> str:
    """What is said loudly where the teacher knows less than those it teaches; mostly empty.

    It does when it is not above the student before distillation, or when a student of this run is
    above it and the test examples can tell the two apart.
    """
    teacher, before = comparison.of_kind("teacher"), comparison.of_kind("before")
    if teacher is None or not comparison.metrics:
        return ""
    metric = comparison.metrics[0]
    if metric.name not in teacher.scores:
        return ""
    better = []
    for model in (before, *comparison.arms):
        if model is None or metric.name not in model.scores:
            continue
        ahead = _ahead(metric, model, teacher)
        if (ahead.mean >= 0 and model is before) or (
            ahead.mean > 0 and (ahead.low > 0 or not ahead.known)
        ):
            better.append(f"{model.name} has {_value(metric, model)}")
    if not better:
        return ""
    others = ", ".join(better[:-1]) + (" and " if better[:-1] else "") + better[-1]
    return (
        f"The teacher is no better than what it teaches: it has {_value(metric, teacher)}"
        f" {metric.words}, and {others}. What is learned from it cannot be better than it is, so no"
        " share of a gap is given. Fine-tune the teacher on the training data first (in the recipe,"
        " as a key of the teacher: `finetune: {epochs: 3}`; or with"
        " `--set teacher.finetune.epochs=3`), or name a stronger one."
    )


def _value(metric: Metric, model: Model) -> str:
    """A model's score with its unit."""
    return metric.text(model.scores[metric.name].mean) + (" %" if metric.scale == 100 else "")


def _ahead(metric: Metric, first: Model, second: Model) -> Interval:
    """By how much the first model is better, over the examples of both where there are any."""
    sign = -1 if metric.lower_is_better else 1
    mean = sign * (first.scores[metric.name].mean - second.scores[metric.name].mean)
    paired = paired_difference(
        first.evaluated.values(metric.name),
        second.evaluated.values(metric.name),
        clusters=clusters_of(first.evaluated.answers),
    )
    if paired is None or not paired.interval.known:
        return Interval(mean)
    ends = sorted((sign * paired.interval.low, sign * paired.interval.high))
    return Interval(mean, ends[0], ends[1])


def _gap_closed(comparison: Comparison, metric: Metric) -> str:
    """How much of the way from the student before distillation to the teacher was made.

    A share is given only where there is a way to go, and where some of it was made.
    """
    main, before = comparison.of_kind("main"), comparison.of_kind("before")
    teacher = comparison.of_kind("teacher")
    if main is None or before is None or teacher is None:
        return ""
    if any(metric.name not in model.scores for model in (main, before, teacher)):
        return ""
    start, goal = _value(metric, before), _value(metric, teacher)
    way, made = _ahead(metric, teacher, before), _ahead(metric, main, before)
    if made.mean < 0:
        return f"Before distillation the student was better: {start}."
    if way.known and way.low <= 0:
        return (
            f"These test examples cannot tell the teacher ({goal}) from the student before"
            f" distillation ({start}), so no share of a gap is given."
        )
    if made.mean > way.mean:
        return f"This is the level of the teacher ({goal}); before distillation it was {start}."
    unclear = made.known and made.low <= 0
    share = gap_share(metric, before, main, teacher)
    closed, ends = made.mean / way.mean if share is None else share.mean, ""
    if share is not None and share.known and not unclear:
        ends = f"; 95 % interval {100 * share.low:.0f} to {100 * share.high:.0f} %"
    return (
        f"This closes {100 * closed:.0f} % of the gap between the student before"
        f" distillation ({start}) and the teacher ({goal})"
        + ("; these test examples cannot tell that step from none." if unclear else f"{ends}.")
    )


def gap_share(metric: Metric, before: Model, main: Model, teacher: Model) -> Interval | None:
    r"""The share of the gap that was closed, with its interval over the examples of all three.

    .. math:: \sum_i (m_i - b_i) \,/ \sum_i (t_i - b_i)

    Examples (or clusters of them) are drawn with all three scores, so that what is hard for all is
    no part of the chance.

    Args:
        metric: the score.
        before: the student before distillation, b.
        main: the student, m.
        teacher: the teacher, t.

    Returns:
        The share and its interval; without an interval where the drawn gaps come near to nothing.
        None where the three share no example.
    """
    shared, (b, m, t) = shared_scores(metric.name, before, main, teacher)
    if not shared or (t - b).sum() == 0:
        return None
    clusters = clusters_of(main.evaluated.answers)
    names = [clusters.get(i, "") for i in shared]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = bootstrap_sums(
            np.stack([m - b, t - b], axis=1), lambda s: s[:, 0] / s[:, 1], clusters=names
        )
    return share if share.known else Interval(share.mean)
