"""The picture that a report opens with: where the student was, where it came to, how far it is."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from tutelage.report.comparison import Comparison, Metric, Model
from tutelage.report.drawing import new_axes
from tutelage.report.quantities import short_name
from tutelage.report.svg import INK, SERIES, Panel, Picture
from tutelage.report.verdict import leading

_MOST = 8
"""Models in the picture; of more controls the best are shown."""


def gap_figure(comparison: Comparison) -> Picture | None:
    """The leading score of each model with its interval, and the gap that was to be closed.

    Args:
        comparison: of a run.

    Returns:
        The picture; None before the main arm is evaluated.
    """
    found = leading(comparison)
    if found is None:
        return None
    main, metric = found
    models = _shown(comparison, main, metric)
    parts = [f"{model.name} {_words(metric, model)}" for model in models]
    better = "lower is better" if metric.lower_is_better else "higher is better"
    alt = f"{metric.label}, {better}: {'; '.join(parts)}."
    words = metric.words[:1].upper() + metric.words[1:]
    caption = f"{words} on the test set with 95 % intervals; {better}."
    if {"before", "teacher"} <= {model.kind for model in models}:
        caption += " Shaded: the gap between the student before distillation and the teacher."
    if len(models) < len([m for m in comparison.models if m.kind != "last"]):
        caption += " Of many controls the best are shown."
    height = 78 + 30 * len(models)
    panel = Panel("models", alt, lambda figure: _draw(figure, models, metric), height)
    return Picture("gap", caption, (panel,))


def _words(metric: Metric, model: Model) -> str:
    score = model.scores[metric.name]
    ends = f" (95 % interval {metric.interval(score)})" if score.known else ""
    return f"{metric.text(score.mean)}{ends}"


def _shown(comparison: Comparison, main: Model, metric: Metric) -> list[Model]:
    """Teacher, main arm, controls from best to worst, student before: as they lie ideally."""
    there = [m for m in comparison.models if metric.name in m.scores and m.kind != "weaker"]
    sign = -1 if metric.lower_is_better else 1
    controls = sorted(
        (m for m in there if m.kind == "arm"),
        key=lambda model: -sign * model.scores[metric.name].mean,
    )
    teachers = [m for m in there if m.kind == "teacher"]
    before = [m for m in there if m.kind == "before"]
    return [*teachers, main, *controls[: _MOST - 3], *before]


def _draw(figure: FigureBase, models: Sequence[Model], metric: Metric) -> None:
    axes = new_axes(figure, metric.label, "", "")
    scale = metric.scale
    kinds = {model.kind: scale * model.scores[metric.name].mean for model in models}
    if {"before", "teacher"} <= kinds.keys():
        axes.axvspan(kinds["before"], kinds["teacher"], color=INK, alpha=0.07, linewidth=0)
    for row, model in enumerate(models):
        _draw_row(axes, row, model, metric)
    names = [short_name(model.name, 22) for model in models]
    axes.set_yticks(range(len(models)), names)
    for label, model in zip(axes.get_yticklabels(), models, strict=True):
        label.set_fontweight("bold" if model.kind == "main" else "normal")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_ylim(len(models) - 0.5, -0.7)
    axes.margins(x=0.08)


def _draw_row(axes: Axes, row: int, model: Model, metric: Metric) -> None:
    score, scale = model.scores[metric.name], metric.scale
    reference = model.kind in ("before", "teacher")
    colour = INK if reference else SERIES[0] if model.kind == "main" else SERIES[1]
    mean = scale * score.mean
    if score.known:
        axes.hlines(row, scale * score.low, scale * score.high, colors=colour, linewidth=2)
    marker = "o" if model.kind == "main" else "D" if reference else "s"
    face = "none" if reference else colour
    axes.plot([mean], [row], marker, color=colour, markerfacecolor=face, markersize=7)
    axes.annotate(
        metric.text(score.mean),
        (mean, row),
        (0, 7),
        textcoords="offset points",
        ha="center",
        fontsize=10,
        color=INK,
        fontweight="bold" if model.kind == "main" else "normal",
    )
