"""Pictures of what came out: the logged curves and the results by group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from numpy.typing import NDArray

from tutelage.report.drawing import DASHES, MARKERS, legend, new_axes
from tutelage.report.quantities import metric_words, number
from tutelage.report.run import series
from tutelage.report.svg import INK, PANEL_HEIGHT, SERIES, Panel, Picture
from tutelage.statistics import Interval

_MAX_LOGGED = 120  # points of a logged curve; more is noise on noise

LOGGED = (
    ("loss", "Loss"),
    ("ce", "Cross-entropy"),
    ("kd", "Divergence from the target"),
    ("token_agreement", "Agreement with the teacher's top token"),
    ("grad_norm", "Gradient norm"),
    ("learning_rate", "Learning rate"),
)
"""What is drawn of a training's records, with titles."""


@dataclass(frozen=True)
class GroupScores:
    """One model's scores in ``results_figure``.

    Attributes:
        name: of the model.
        scores: label of the group to its mean and interval.
        reference: whether it is a model to compare with (teacher, student before) and not an arm.
        colour: of its marks, one of ``SERIES``; empty: by its place.
    """

    name: str
    scores: Mapping[str, Interval]
    reference: bool = False
    colour: str = ""


def loss_figure(
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
    validation: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
) -> Picture | None:
    """Parts of the loss and other logged quantities over steps, one line for each arm.

    Args:
        metrics: arm name to its logged rows, ascending by step.
        validation: arm name to its validation rows, ascending by step.

    Returns:
        The picture, or None when nothing was logged.
    """
    return curves_figure(metrics, validation or {}, LOGGED)


def curves_figure(
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
    validation: Mapping[str, Sequence[Mapping[str, Any]]],
    quantities: Sequence[tuple[str, str]],
    x_label: str = "step",
) -> Picture | None:
    """Some logged quantities and all validations over steps, one line for each arm.

    Args:
        metrics: as of :func:`loss_figure`.
        validation: likewise.
        quantities: keys of the logged rows, with their titles.
        x_label: what ``step`` of a row is.
    """
    panels = []
    for key, title in quantities:
        curves = {arm: series(rows, key) for arm, rows in metrics.items()}
        panels.append(_curve_panel(key, title, curves, x_label))
    names = {key: None for rows in validation.values() for row in rows for key in row}
    for name in names:
        if name != "step":
            curves = {arm: series(rows, name) for arm, rows in validation.items()}
            panels.append(
                _curve_panel(
                    f"validation-{name}", f"Validation: {metric_words(name)}", curves, x_label
                )
            )
    drawn = tuple(panel for panel in panels if panel is not None)
    if not drawn:
        return None
    caption = (
        f"Logged during training; long curves are averaged into {_MAX_LOGGED} points. Losses of"
        " different methods are not on one scale (targets, temperatures and weights differ):"
        " compare results, not losses."
    )
    return Picture("loss", caption, drawn)


def own_text_figure(metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> Picture | None:
    """What the student's own answers were like over the steps, one line for each arm with some.

    Args:
        metrics: arm name to its logged rows, ascending by step.

    Returns:
        The picture, or None when no student learned from answers of its own.
    """
    quantities = (
        ("own_length", "Tokens of an answer"),
        ("own_ended", "Share that ended by themselves"),
        ("own_repetition", "Repetition within an answer"),
        ("own_agreement", "Agreement with the teacher's top token"),
        ("own_entropy", "Entropy (nats per token)"),
        ("own_kept", "Share of the student's tokens that its teacher kept"),
    )
    panels = []
    for key, title in quantities:
        curves = {arm: series(rows, key) for arm, rows in metrics.items()}
        panels.append(_curve_panel(key, title, curves))
    drawn = tuple(panel for panel in panels if panel is not None)
    if not drawn:
        return None
    caption = (
        "Repetition is the share of 4-grams that stood in the same answer before. Answers that get"
        " much longer or shorter, stop ending, go in circles, or are always the same (entropy) are"
        " signs of a collapse, except where the plan wants them: a longer horizon makes answers"
        " longer, and a task with one right answer needs no entropy."
    )
    return Picture("own-text", caption, drawn)


def _curve_panel(
    name: str, title: str, curves: Mapping[str, tuple[NDArray, NDArray]], x_label: str = "step"
) -> Panel | None:
    """One line for each arm that has values; None when none has."""
    present = {arm: _binned(*curve) for arm, curve in curves.items() if curve[0].size}
    if not present:
        return None
    styles = {arm: index for index, arm in enumerate(curves)}
    ends = [f"{arm} from {number(y[0])} to {number(y[-1])}" for arm, (_, y) in present.items()]

    def draw(figure: FigureBase) -> None:
        axes = new_axes(figure, title, x_label, "")
        for arm, (steps, values) in present.items():
            index = styles[arm]
            axes.plot(
                steps,
                values,
                color=SERIES[index % len(SERIES)],
                linestyle=DASHES[index % len(DASHES)],
                marker=MARKERS[index % len(MARKERS)] if steps.size < 12 else None,
                markersize=4,
                linewidth=1.6,
                label=arm,
            )
        legend(axes)

    over = "steps" if x_label == "step" else x_label
    slug = "".join(c if c.isalnum() else "-" for c in name)
    return Panel(slug, f"{title} over {over}: {'; '.join(ends)}.", draw)


def _binned(steps: NDArray, values: NDArray) -> tuple[NDArray, NDArray]:
    """Means of neighbouring points, so that at most ``_MAX_LOGGED`` remain."""
    pieces = min(_MAX_LOGGED, steps.size)
    return (
        np.array([part.mean() for part in np.array_split(steps, pieces)]),
        np.array([part.mean() for part in np.array_split(values, pieces)]),
    )


def results_figure(models: Sequence[GroupScores], title: str, name: str = "results") -> Picture:
    """A metric by group for every model, with its 95 % intervals.

    Args:
        models: arms and references; every one may lack some groups.
        title: name of the metric with its unit.
        name: of the picture, unique on its page.
    """
    caption = "Points are means, bars their 95 % intervals over test examples"
    if any(model.reference for model in models):
        caption += "; open marks are references"
    return Picture(name, f"{caption}.", (intervals_panel(models, "groups", title, "by group"),))


def differences_figure(panels: Mapping[str, Sequence[GroupScores]], first: str) -> Picture:
    """By how much a model is above others in each suite, with 95 % intervals: a forest plot.

    Args:
        panels: title of a panel, with its unit, to the other models; their groups are suites.
        first: the model that the others are held against.
    """
    drawn = [
        intervals_panel(models, f"unit-{number}", title, "by suite", zero=True)
        for number, (title, models) in enumerate(panels.items())
    ]
    caption = (
        f"{first} minus each other model, question by question; bars are 95 % intervals. Right of"
        f" the line {first} has the higher score; a bar across it says that the two may be equal."
    )
    return Picture("differences", caption, tuple(drawn))


def intervals_panel(
    models: Sequence[GroupScores], name: str, title: str, by: str, *, zero: bool = False
) -> Panel:
    """Means with their intervals, groups below each other; ``zero`` draws a line there."""
    groups = list(dict.fromkeys(group for model in models for group in model.scores))
    lines = []
    for model in models:
        values = ", ".join(f"{group} {number(v.mean)}" for group, v in model.scores.items())
        lines.append(f"{model.name}: {values}")

    def draw(figure: FigureBase) -> None:
        axes = new_axes(figure, title, "", "")
        if zero:
            axes.axvline(0, color=INK, linewidth=1.0)
        _draw_intervals(axes, models, groups)
        legend(axes)

    height = max(PANEL_HEIGHT, 95 + len(groups) * (14 + 13 * len(models)))
    return Panel(name, f"{title} {by}. " + ". ".join(lines) + ".", draw, height)


def _draw_intervals(axes: Axes, models: Sequence[GroupScores], groups: Sequence[str]) -> None:
    spacing = 1.0 / (len(models) + 1)
    arm = 0
    for row, model in enumerate(models):
        shown = [
            (i, model.scores[group]) for i, group in enumerate(groups) if group in model.scores
        ]
        places = [i + (row + 1) * spacing - 0.5 for i, _ in shown]
        means = np.array([value.mean for _, value in shown])
        ends = np.array(
            [(v.low, v.high) if v.known else (v.mean, v.mean) for _, v in shown]
        ).reshape(-1, 2)
        colour = INK if model.reference else model.colour or SERIES[arm % len(SERIES)]
        axes.hlines(places, ends[:, 0], ends[:, 1], colors=colour, linewidth=1.6)
        axes.plot(
            means,
            places,
            MARKERS[row % len(MARKERS)],
            color=colour,
            markerfacecolor="none" if model.reference else colour,
            markersize=5.5,
            label=model.name,
        )
        arm += not model.reference
    for edge in range(1, len(groups)):
        axes.axhline(edge - 0.5, color=INK, linewidth=0.6, alpha=0.25)
    axes.set_yticks(range(len(groups)), groups)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_ylim(len(groups) - 0.5, -0.5)
