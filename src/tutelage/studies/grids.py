"""The grids of a study with two things that vary: what each field of a heat map shows."""

from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.statistics import SeededDifference
from tutelage.studies.analysis import Analysis, CellAnalysis

ARM = "arm"


@dataclass(frozen=True)
class Field:
    """One cell of a grid.

    Attributes:
        value: the leading measure, or its difference to the control.
        told: whether the interval of the difference excludes zero.
    """

    value: float
    told: bool


@dataclass(frozen=True)
class Grid:
    """Fields by their row and column, in one or more panels.

    Attributes:
        rows_name: what varies from row to row.
        columns_name: what varies from column to column.
        rows: labels from top to bottom.
        columns: labels from left to right.
        panels: by heading the fields that are known, by row and column.
        relative: whether values are differences to the control.
        caption: how to read it.
    """

    rows_name: str
    columns_name: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    panels: Mapping[str, Mapping[tuple[str, str], Field]]
    relative: bool
    caption: str


def grid_of(analysis: Analysis) -> Grid | None:
    """The grid of two factors, a panel for each arm, or of arms and one factor; None for others.

    Differences are shown where every cell has a control of its own, at its own levels; values where
    all are held against one of the grid's own fields.
    """
    factors = list(dict.fromkeys(name for cell in analysis.cells for name in cell.levels))
    arms = list(dict.fromkeys(cell.arm for cell in analysis.cells))
    scored = [cell for cell in analysis.cells if analysis.leading(cell) is not None]
    if not scored or not analysis.measures:
        return None
    own = len({cell.control for cell in analysis.compared}) > 1
    if len(factors) == 2 and all(len(_labels(analysis, name)) > 1 for name in factors):
        shown = [cell for cell in scored if not own or _difference(analysis, cell) is not None]
        panels = {
            arm: {
                _place(cell, factors): _field(analysis, cell, own)
                for cell in shown
                if cell.arm == arm
            }
            for arm in arms
        }
        rows, columns = (_labels(analysis, name) for name in factors)
        down, across = (name.rpartition(".")[2] for name in factors)
    elif len(factors) == 1 and len(arms) > 1 and len(_labels(analysis, factors[0])) > 1:
        own = False
        fields = {(c.arm, c.levels[factors[0]]): _field(analysis, c, False) for c in scored}
        panels = {"all arms": fields}
        rows, columns = tuple(arms), _labels(analysis, factors[0])
        down, across = ARM, factors[0].rpartition(".")[2]
    else:
        return None
    panels = {title: fields for title, fields in panels.items() if fields}
    if not panels:
        return None
    return Grid(down, across, rows, columns, panels, own, _caption(analysis, own))


def _labels(analysis: Analysis, factor: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(c.levels[factor] for c in analysis.cells if factor in c.levels))


def _place(cell: CellAnalysis, factors: list[str]) -> tuple[str, str]:
    return cell.levels[factors[0]], cell.levels[factors[1]]


def _difference(analysis: Analysis, cell: CellAnalysis) -> SeededDifference | None:
    outcome = analysis.leading(cell)
    return None if outcome is None else outcome.difference


def _field(analysis: Analysis, cell: CellAnalysis, relative: bool) -> Field:
    found, outcome = _difference(analysis, cell), analysis.leading(cell)
    assert outcome is not None
    told = found is not None and len(found.by_seed) > 1 and found.interval.excludes_zero
    return Field(found.interval.mean if relative and found is not None else outcome.mean, told)


def _caption(analysis: Analysis, relative: bool) -> str:
    measure = analysis.measures[0]
    if relative:
        start = f"Difference to the control at the same settings ({measure.unit}), mean over seeds."
    else:
        start = f"{measure.label}, mean over seeds."
    return f"{start} A star marks a difference to the control whose 95 % interval excludes zero."
