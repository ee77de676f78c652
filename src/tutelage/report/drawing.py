"""What all drawings share: axes, a legend that covers nothing, ticks, line styles."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import FuncFormatter, MaxNLocator

MAX_POINTS = 400  # of a curve; more cannot be seen and only makes the page heavy
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")


def new_axes(figure: FigureBase, title: str, x_label: str, y_label: str) -> Axes:
    """Axes that fill the figure, with a title and few ticks."""
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(thousands))
    return axes


def legend(axes: Axes, order: Sequence[str] = ()) -> None:
    """A legend below the axes, where it covers nothing; ``order`` names the first entries."""
    drawn = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    labels = [*order, *(label for label in drawn if label not in order)]
    handles = [drawn[label] for label in labels]
    longest = max(map(len, labels))
    columns = 3 if longest <= 14 else 2 if longest <= 24 else 1
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def thousands(value: float, _position: int | None = None) -> str:
    """Tick label: 12000 becomes 12k."""
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:g}"
