"""Pictures of what is planned: the difficulty profile, the schedules, the exposure.

Each function takes plain values and returns a ``Picture``, which gives SVG for a page (``svgs()``)
and PNG for everything else (``save_png(path)``).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from numpy.typing import ArrayLike, NDArray

from tutelage.curriculum.options import AS_IF_NOT_THERE
from tutelage.report.drawing import DASHES, MAX_POINTS, legend, new_axes
from tutelage.report.quantities import count, number
from tutelage.report.svg import INK, SERIES, Panel, Picture


def profile_figure(
    scores: ArrayLike, *, unit: str = "nats per token", stages: Sequence[Mapping[str, Any]] = ()
) -> Picture:
    """The difficulty profile: running mean over examples from easy to hard, and the distribution.

    Args:
        scores: difficulty of every example in any order, shape ``[N]``, N >= 1.
        unit: of the scores.
        stages: stages of a plan with ``num_examples``, ``mean_difficulty`` and
            ``target_difficulty``; drawn as cut points on the profile with their targets.

    References:
        Zhang and Liu, Calibrated Progressive Distillation, Findings of ACL 2026, Fig. 2c.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    running = np.cumsum(ordered) / np.arange(1, ordered.size + 1)
    alt = (
        f"Mean difficulty of the easiest examples rises from {number(running[0])} for one example"
        f" to {number(running[-1])} {unit} for all {count(ordered.size)}."
    )
    cuts = sorted({int(stage["num_examples"]) for stage in stages})
    if len(cuts) > 1:
        alt += f" Stages end at {', '.join(count(cut) for cut in cuts)} examples."
    quartiles = np.quantile(ordered, [0.25, 0.5, 0.75])
    spread = (
        f"Histogram of difficulty: half of the examples lie between {number(quartiles[0])} and"
        f" {number(quartiles[2])}, the median is {number(quartiles[1])} {unit}."
    )
    caption = (
        "First: mean difficulty of the k easiest examples. Second: how difficulty is spread; the"
        " last bar also holds the most extreme half percent."
        " A curve that is not straight means that adding equally many examples at each stage would"
        " not add equal difficulty."
    )
    if len(cuts) > 1:
        caption += (
            " Dots are the stages of the plan: the subset ends where its mean difficulty reaches"
            " the target (dashed)."
        )
    panels = (
        Panel("mean", alt, lambda figure: _draw_running_mean(figure, running, unit, stages)),
        Panel("spread", spread, lambda figure: _draw_histogram(figure, ordered, unit)),
    )
    return Picture("profile", caption, panels)


def _draw_running_mean(
    figure: FigureBase, running: NDArray[np.float64], unit: str, stages: Sequence[Mapping[str, Any]]
) -> None:
    axes = new_axes(figure, "Mean difficulty of the easiest", "examples, easiest first", unit)
    shown = np.unique(np.linspace(0, running.size - 1, MAX_POINTS).astype(int))
    axes.plot(shown + 1, running[shown], color=SERIES[0])
    cuts = {int(stage["num_examples"]): stage for stage in stages if stage["num_examples"]}
    every = -(-len(cuts) // 10)  # more than ten labels run into each other
    for index, (cut, stage) in enumerate(sorted(cuts.items())):
        mean, target = stage["mean_difficulty"], stage.get("target_difficulty")
        axes.vlines(cut, running[0], mean, colors=INK, linewidth=0.8, alpha=0.35)
        if target is not None:
            axes.hlines(
                target, 0, cut, colors=SERIES[1], linewidth=1, linestyles="dashed", alpha=0.8
            )
        axes.plot([cut], [mean], "o", color=SERIES[1], markersize=5)
        if len(cuts) > 1 and (index % every == 0 or index == len(cuts) - 1):
            axes.annotate(
                str(stage["stage"]), (cut, mean), (-5, 5), textcoords="offset points", ha="right"
            )
    axes.set_xlim(0, running.size * 1.03)


def _draw_histogram(figure: FigureBase, ordered: NDArray[np.float64], unit: str) -> None:
    axes = new_axes(figure, "Difficulty of single examples", unit, "examples")
    # A few extreme examples would squeeze all others into one bar: the last bar takes them.
    top = float(np.quantile(ordered, 0.995))
    bins = min(40, max(5, round(np.sqrt(ordered.size))))
    axes.hist(np.minimum(ordered, top), bins=bins, color=SERIES[0], alpha=0.8)
    for value, label, dash in (
        (float(ordered.mean()), "mean", "-"),
        (float(np.median(ordered)), "median", DASHES[1]),
    ):
        axes.axvline(value, color=INK, linewidth=1.2, linestyle=dash, label=label)
    legend(axes)


def plan_figure(
    stages: Sequence[Mapping[str, Any]], steps: Mapping[str, NDArray] | None = None
) -> Picture:
    """What the plan does at every optimizer step: subset size and the schedules.

    Args:
        stages: the stages of the plan, at least one.
        steps: what the plan schedules (``student_share``, ...), by name an array of its steps;
            without them the means of the stages are drawn.
    """
    ends = np.cumsum([int(stage["steps"]) for stage in stages])
    bounds = np.concatenate([[0], ends])
    steps = steps or {}
    panels = [
        Panel(
            "examples",
            "Examples in use at each step: "
            + ", ".join(count(stage["num_examples"]) for stage in stages[:20])
            + " over the stages.",
            _stairs_drawer("Examples in use", bounds, [s["num_examples"] for s in stages]),
            height=200,
        )
    ]
    schedules = (
        ("student_share", "Student's share of the target"),
        ("distill_temperature", "Distillation temperature"),
        ("ce_weight", "Weight of cross-entropy"),
        ("second_share", "Share of the second divergence"),
        ("token_share", "Share of the tokens that is learned from"),
        ("lr_factor", "Learning rate, share of its peak"),
    )
    for key, title in schedules:
        values = np.asarray(steps.get(key, ()), dtype=np.float64)
        means = [stage[key] for stage in stages if key in stage]
        if key in AS_IF_NOT_THERE and set(means) <= {AS_IF_NOT_THERE[key]}:
            continue
        if len(values):
            drawer = _schedule_drawer(title, bounds, values)
        elif key in stages[0]:
            values = np.asarray([float(stage[key]) for stage in stages])
            drawer = _stairs_drawer(title, bounds, values)
        else:
            continue
        alt = f"{title} over steps: starts at {number(values[0])}, ends at {number(values[-1])}."
        panels.append(Panel(key.replace("_", "-"), alt, drawer, height=200))
    caption = "The plan over optimizer steps. Thin vertical lines separate the stages."
    return Picture("plan", caption, tuple(panels))


def _stairs_drawer(title: str, bounds: NDArray, values: ArrayLike) -> Callable[[FigureBase], None]:
    def draw(figure: FigureBase) -> None:
        axes = new_axes(figure, title, "step", "")
        axes.stairs(values, bounds, color=SERIES[0], linewidth=1.8, baseline=None)
        _step_axis(axes, bounds, values)

    return draw


def _schedule_drawer(title: str, bounds: NDArray, values: NDArray) -> Callable[[FigureBase], None]:
    def draw(figure: FigureBase) -> None:
        axes = new_axes(figure, title, "step", "")
        shown = np.unique(np.linspace(0, values.size - 1, MAX_POINTS).astype(int))
        # A value holds for its whole step; slopes would hide that a schedule jumps.
        axes.plot(shown, values[shown], color=SERIES[0], drawstyle="steps-post")
        _step_axis(axes, bounds, values)

    return draw


def _step_axis(axes: Axes, bounds: NDArray, values: ArrayLike) -> None:
    """Stage boundaries, an axis that starts at zero, and ticks that fit."""
    for bound in bounds[1:-1]:
        axes.axvline(bound, color=INK, linewidth=0.7, alpha=0.35)
    axes.set_xlim(0, max(1, bounds[-1]))
    top = float(np.max(np.asarray(values, dtype=np.float64), initial=0.0))
    axes.set_ylim(0, 1.08 * top if top > 0 else 1.0)


def exposure_figure(exposure: Sequence[Mapping[str, Any]]) -> Picture:
    """What an example of each tenth of difficulty gets, against a plain shuffled run.

    Args:
        exposure: rows with ``tenth`` and ``num_examples``, and ``lr_visits``, ``teacher_visits``
            and ``plain_lr_visits``, totals over these examples; tenth 1 is the easiest.
    """
    sizes = np.array([row["num_examples"] for row in exposure])
    labels = [int(row["tenth"]) for row in exposure]
    values = {
        key: np.array([float(row[key]) for row in exposure]) / np.maximum(sizes, 1)
        for key in ("lr_visits", "teacher_visits", "plain_lr_visits")
    }
    first, last = {k: v[0] for k, v in values.items()}, {k: v[-1] for k, v in values.items()}
    alt = (
        "Visits weighted by learning rate, per example. Easiest tenth:"
        f" {number(first['lr_visits'])} against {number(first['plain_lr_visits'])} in a plain run,"
        f" of which the teacher's part is {number(first['teacher_visits'])}. Hardest tenth:"
        f" {number(last['lr_visits'])} against {number(last['plain_lr_visits'])}, the teacher's"
        f" part is {number(last['teacher_visits'])}."
    )

    def draw(figure: FigureBase) -> None:
        axes = new_axes(
            figure,
            "Exposure per example",
            "tenth of the data, 1 = easiest",
            "visits x learning rate",
        )
        places = np.array(labels)
        plain = values["plain_lr_visits"]
        axes.bar(places - 0.2, values["lr_visits"], 0.4, color=SERIES[0], label="this plan")
        axes.bar(
            places + 0.2, values["teacher_visits"], 0.4, color=SERIES[1], label="teacher's part"
        )
        axes.plot(places, plain, "D", color=INK, markersize=4.5, label="plain run")
        axes.set_xticks(labels)
        axes.grid(axis="x", visible=False)
        axes.set_ylim(0, None)
        legend(axes, order=("this plan", "teacher's part", "plain run"))

    caption = (
        "How often an example of each tenth is visited, each visit weighted by the learning rate"
        " (as a share of its peak). The second bar weighs it by the teacher's share of the loss as"
        " well. Diamonds: a plain shuffled run."
    )
    return Picture("exposure", caption, (Panel("tenths", alt, draw),))
