"""Pictures of a study: differences, quality while training, grids, and what cells cost."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.patches import Rectangle

from tutelage.report.drawing import DASHES, MARKERS, legend, new_axes
from tutelage.report.outcome_plots import GroupScores, intervals_panel
from tutelage.report.page_tables import scaled
from tutelage.report.quantities import flops, large, metric_words, number, short_name
from tutelage.report.svg import INK, PANEL_HEIGHT, SERIES, Panel, Picture
from tutelage.studies.analysis import Analysis, CellAnalysis, Measure
from tutelage.studies.costs import Curve
from tutelage.studies.grids import Grid
from tutelage.studies.verdicts import difference_text

_ROWS = 28
"""Cells below each other in one panel."""

_LABEL = 36
"""Characters of a cell's label: its levels say what it is."""

_LINES = 6
"""Curves in one panel, and cells in one picture by group: more cannot be told apart."""

_DARKEST = 0.55
"""Of a field behind a number, which stays readable on it."""


def labels_of(cells: Sequence[CellAnalysis]) -> dict[str, str]:
    """Short names of cells by name: the arm where there are several, and the levels alone."""
    arms = {cell.arm for cell in cells}
    found = {}
    for cell in cells:
        levels = ", ".join(cell.levels.values())
        parts = [cell.arm] if len(arms) > 1 or not levels else []
        found[cell.name] = short_name(", ".join([*parts, *([levels] if levels else [])]), _LABEL)
    if len(set(found.values())) < len(found):
        return {cell.name: cell.name for cell in cells}
    return found


def forest_figure(analysis: Analysis) -> Picture | None:
    """Every cell's difference to its control with its interval; None where nothing is compared."""
    panels = []
    for place, measure in enumerate(analysis.measures):
        cells = [
            cell
            for cell in analysis.compared
            if measure.key in cell.outcomes and cell.outcomes[measure.key].difference is not None
        ]
        for start in range(0, len(cells), _ROWS):
            panels.append(
                _forest_panel(analysis, measure, cells[start : start + _ROWS], place, start)
            )
    if not panels:
        return None
    less = [m.metric.words for m in analysis.measures if m.metric.lower_is_better]
    caption = (
        "Each cell minus its control, seed by seed and example by example; bars are 95 % intervals"
        " over both. Filled marks: the interval excludes zero. A bar across the line says that the"
        " two may be equal."
    )
    if less:
        caption += f" Of {', '.join(less)} less is better."
    return Picture("forest", caption, tuple(panels))


def _forest_panel(
    analysis: Analysis, measure: Measure, cells: Sequence[CellAnalysis], place: int, start: int
) -> Panel:
    labels = labels_of(analysis.compared)
    found = [(cell, cell.outcomes[measure.key].difference) for cell in cells]
    shown = [(cell, one) for cell, one in found if one is not None]
    words = "; ".join(f"{cell.name} {difference_text(measure, one)}" for cell, one in shown)
    title = f"{measure.label.removesuffix(' (%)')}, minus control ({measure.unit})"
    if measure.metric.scale != 100:
        title = f"{measure.label}, minus control"

    def draw(figure: FigureBase) -> None:
        axes = new_axes(figure, "", title, "")
        axes.axvline(0, color=INK, linewidth=1.0)
        for row, (cell, one) in enumerate(shown):
            value = scaled(one.interval, measure.metric.scale)
            colour = _colour(analysis, cell.arm)
            if value.known:
                axes.hlines(row, value.low, value.high, colors=colour, linewidth=1.8)
            face = colour if value.excludes_zero else "none"
            axes.plot([value.mean], [row], "o", color=colour, markerfacecolor=face, markersize=6)
        _rows(axes, [labels[cell.name] for cell, _ in shown])

    return Panel(
        f"measure-{place}-{start}",
        f"Differences to the control: {words}.",
        draw,
        height=max(110, 70 + 22 * len(shown)),
    )


def _colour(analysis: Analysis, arm: str) -> str:
    """Of an arm, the same in all pictures of a page."""
    arms = list(dict.fromkeys(cell.arm for cell in analysis.cells))
    return SERIES[arms.index(arm) % len(SERIES)]


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.set_ylim(len(labels) - 0.5, -0.5)


def groups_figure(analysis: Analysis) -> Picture | None:
    """Differences to the control by group, of the leading measure; None for one, or very many."""
    cells = [
        cell
        for cell in analysis.compared
        if any(outcome.difference is not None for outcome in cell.groups.values())
    ]
    if len(analysis.groups) < 2 or not 0 < len(cells) <= _LINES:
        return None
    measure, labels = analysis.measures[0], labels_of(cells)
    by_arm = len({cell.arm for cell in cells}) == len(cells)
    models = [
        GroupScores(
            labels[cell.name],
            {
                short_name(group): scaled(outcome.difference.interval, measure.metric.scale)
                for group in analysis.groups
                if (outcome := cell.groups.get(group)) is not None
                and outcome.difference is not None
            },
            colour=_colour(analysis, cell.arm) if by_arm else "",
        )
        for cell in cells
    ]
    caption = "Each cell minus its control within each group of test examples, with 95 % intervals."
    title = f"Minus control ({measure.unit})"
    panel = intervals_panel(models, "groups", title, "by group", zero=True)
    return Picture("groups", caption, (panel,))


def curves_figure(analysis: Analysis) -> Picture | None:
    """Validation over updates, and over FLOPs and seconds where known; None without curves."""
    cells = _with_curves(analysis)
    if not cells:
        return None
    curves = {cell.name: cell.curve for cell in cells if cell.curve is not None}
    words = metric_words(next(iter(curves.values())).measure)
    panels = [_curves_panel("updates", "updates", words, cells, analysis, lambda c: c.steps)]
    if all(curve.flops for curve in curves.values()):
        axis = "floating-point operations"
        panels.append(_curves_panel("flops", axis, words, cells, analysis, lambda c: c.flops))
    if all(curve.seconds for curve in curves.values()):
        axis = "seconds"
        panels.append(_curves_panel("seconds", axis, words, cells, analysis, lambda c: c.seconds))
    caption = (
        f"{words[:1].upper()}{words[1:]} of the validation data while training: means over seeds,"
        " in a band of one standard deviation over seeds."
    )
    if len(panels) > 1:
        caption += (
            " What an arm pays before its first update (difficulty, texts, storing a teacher)"
            " shifts its curve to the right; the rest is taken as paid evenly over updates."
        )
    if len(cells) < sum(cell.curve is not None for cell in analysis.cells):
        caption += " Of many cells the best one of each arm is shown, of many arms the best ones."
    return Picture("curves", caption, tuple(panels))


def _with_curves(analysis: Analysis) -> list[CellAnalysis]:
    """Cells with the same curve; of many the best one of each arm, and of these the best."""
    found = [cell for cell in analysis.cells if cell.curve is not None]
    names = [cell.curve.measure for cell in found if cell.curve is not None]
    common = max(dict.fromkeys(names), key=names.count, default="")
    found = [cell for cell in found if cell.curve is not None and cell.curve.measure == common]
    if len(found) <= _LINES:
        return found
    sign = -1 if analysis.measures and analysis.measures[0].metric.lower_is_better else 1

    def worth(cell: CellAnalysis) -> float:
        outcome = analysis.leading(cell)
        return -math.inf if outcome is None else sign * outcome.mean

    best: dict[str, CellAnalysis] = {}
    for cell in found:
        if cell.arm not in best or worth(cell) > worth(best[cell.arm]):
            best[cell.arm] = cell
    ranked = sorted(best.values(), key=lambda cell: (not cell.is_control, -worth(cell)))[:_LINES]
    return [cell for cell in found if cell in ranked]


def _curves_panel(
    name: str,
    axis: str,
    words: str,
    cells: Sequence[CellAnalysis],
    analysis: Analysis,
    amounts: Callable[[Curve], Sequence[float]],
) -> Panel:
    labels = labels_of(cells)
    told = flops if name == "flops" else large
    ends = []
    for cell in cells:
        assert cell.curve is not None
        means, at = cell.curve.means, amounts(cell.curve)
        ends.append(
            f"{cell.name} from {number(means[0])} at {told(at[0])} to {number(means[-1])} at"
            f" {told(at[-1])}"
        )
    several = len({cell.arm for cell in cells}) == len(cells)

    def draw(figure: FigureBase) -> None:
        axes = new_axes(figure, "", axis, words)
        if name == "flops":
            axes.xaxis.set_major_formatter(lambda value, _: flops(value))
        for place, cell in enumerate(cells):
            assert cell.curve is not None
            at, means = np.array(amounts(cell.curve)), np.array(cell.curve.means)
            spread = np.array(cell.curve.spreads)
            colour = _colour(analysis, cell.arm) if several else SERIES[place % len(SERIES)]
            axes.fill_between(
                at, means - spread, means + spread, color=colour, alpha=0.15, linewidth=0
            )
            axes.plot(
                at,
                means,
                color=colour,
                linestyle=DASHES[place % len(DASHES)],
                marker=MARKERS[place % len(MARKERS)] if len(at) < 12 else None,
                markersize=4,
                label=labels[cell.name],
            )
        legend(axes)

    return Panel(name, f"{words} over {axis}: {'; '.join(ends)}.", draw)


def grid_figure(analysis: Analysis, grid: Grid) -> Picture:
    """A heat map of each of a grid's panels: numbers, on fields that are darker for larger ones."""
    metric = analysis.measures[0].metric
    values = [
        metric.scale * one.value for fields in grid.panels.values() for one in fields.values()
    ]
    ends = (min(values), max(values))
    panels = []
    for place, (title, fields) in enumerate(grid.panels.items()):
        words = ", ".join(
            f"{row} and {column} {metric.text(one.value, sign=grid.relative)}"
            for (row, column), one in fields.items()
        )
        heading = f"{title}: {'minus control' if grid.relative else analysis.measures[0].label}"
        panels.append(
            Panel(
                f"panel-{place}",
                f"{heading}, by {grid.rows_name} and {grid.columns_name}: {words}.",
                _grid_drawer(analysis, grid, title, ends),
                height=max(150, 100 + 30 * len(grid.rows)),
            )
        )
    return Picture("grid", grid.caption, tuple(panels))


def _grid_drawer(
    analysis: Analysis, grid: Grid, title: str, ends: tuple[float, float]
) -> Callable[[FigureBase], None]:
    metric = analysis.measures[0].metric
    largest = max(map(abs, ends)) or 1.0

    def look(value: float) -> tuple[str, float]:
        if grid.relative:
            return SERIES[0] if value > 0 else SERIES[1], _DARKEST * abs(value) / largest
        span = ends[1] - ends[0]
        return SERIES[0], _DARKEST * (0.1 + 0.9 * ((value - ends[0]) / span if span else 0.5))

    def draw(figure: FigureBase) -> None:
        axes = new_axes(figure, title, grid.columns_name, grid.rows_name)
        for (row, column), one in grid.panels[title].items():
            x, y = grid.columns.index(column), grid.rows.index(row)
            colour, alpha = look(metric.scale * one.value)
            field = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=colour, alpha=alpha)
            field.set_linewidth(0)
            axes.add_patch(field)
            text = metric.text(one.value, sign=grid.relative) + ("*" if one.told else "")
            axes.text(x, y, text, ha="center", va="center", fontsize=10)
        axes.set_xticks(range(len(grid.columns)), [short_name(name) for name in grid.columns])
        axes.set_xlim(-0.5, len(grid.columns) - 0.5)
        _rows(axes, [short_name(name) for name in grid.rows])
        axes.grid(visible=False)
        if max(map(len, grid.columns)) * len(grid.columns) > 36:
            axes.tick_params(axis="x", rotation=30)
        for spine in axes.spines.values():
            spine.set_visible(False)

    return draw


def cost_figure(analysis: Analysis) -> Picture | None:
    """What runs of each cell cost, by purpose; None while that is not known."""
    cells = [cell for cell in analysis.cells if cell.cost is not None]
    costs = [cell.cost for cell in cells if cell.cost is not None]
    purposes = list(dict.fromkeys(key for one in costs for key in (*one.flops, *one.seconds)))
    panels = []
    for key, axis in (("flops", "floating-point operations"), ("seconds", "seconds")):
        parts = {cell.name: getattr(cell.cost, key) for cell in cells}
        parts = {
            name: {key: one[key] for key in purposes if key in one} for name, one in parts.items()
        }
        if any(sum(one.values()) for one in parts.values()):
            for start in range(0, len(cells), _ROWS):
                some = cells[start : start + _ROWS]
                panels.append(_cost_panel(f"{key}-{start}", axis, some, parts, purposes))
    if not panels:
        return None
    caption = (
        "What one run of each cell costs, all that it needs charged to it, also what it shares with"
        " others: means over its runs. Seconds are of the machine as it was, busy or not."
    )
    return Picture("cost", caption, tuple(panels))


def _cost_panel(
    name: str,
    axis: str,
    cells: Sequence[CellAnalysis],
    parts: Mapping[str, Mapping[str, float]],
    purposes: Sequence[str],
) -> Panel:
    labels = labels_of(cells)
    words = []
    for cell in cells:
        told = flops if name.startswith("flops") else number
        shares = ", ".join(f"{key} {told(value)}" for key, value in parts[cell.name].items())
        words.append(f"{cell.name}: {shares}")

    def draw(figure: FigureBase) -> None:
        axes = new_axes(figure, "", axis, "")
        if name.startswith("flops"):
            axes.xaxis.set_major_formatter(lambda value, _: flops(value))
        left = np.zeros(len(cells))
        for place, purpose in enumerate(purposes):
            sizes = np.array([parts[cell.name].get(purpose, 0.0) for cell in cells])
            if not sizes.any():
                continue  # of the other panel alone, where it has the same colour
            colour = SERIES[place % len(SERIES)]
            axes.barh(range(len(cells)), sizes, 0.66, left=left, color=colour, label=purpose)
            left += sizes
        _rows(axes, [labels[cell.name] for cell in cells])
        legend(axes)

    height = max(130, min(PANEL_HEIGHT, 110) + 20 * len(cells))
    return Panel(name, f"{axis} by purpose. {'. '.join(words)}.", draw, height)
