"""What a study came to, for the terminal, for programs and for spreadsheets."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tutelage.report.quantities import MISSING, duration, large
from tutelage.studies.analysis import Analysis, CellAnalysis
from tutelage.studies.forecast import Expected, total_seconds
from tutelage.studies.results import Result
from tutelage.studies.verdicts import (
    cell_sentence,
    cost_sentence,
    is_confirmed,
    p_text,
    verdict_of,
    verdict_sentences,
)

_STYLES = {"better": "green", "worse": "red"}


def study_table(analysis: Analysis) -> RenderableType:
    """A row for each cell by the leading measure, and below it what that says in words."""
    parts: list[RenderableType] = []
    if analysis.measures:
        label = analysis.measures[0].label
        parts.append(Text(f"{label}; diff.: minus the control; p: adjusted (Holm)", style="italic"))
        parts.append(_table(analysis))
        parts.append(Text())
    sentences = verdict_sentences(analysis)
    cost = cost_sentence(analysis)
    parts += [Text(sentence) for sentence in [*sentences, *([cost] if cost else [])]]
    return Group(*parts)


def expected_table(expected: Sequence[Expected], currency: str) -> RenderableType:
    """A row for each cell with what it will do and cost."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("cell", overflow="fold", min_width=12)
    for name in ("tried", "final", "there", "updates", "tokens", "FLOPs", "a run", "in all"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in expected:
        ledger = one.ledger
        known = [MISSING] * 3
        if ledger is not None:
            known = [f"{ledger.updates:,}", large(ledger.student_tokens)]
            known.append(large(ledger.amount("flops")))
        of_all = None if one.seconds is None else one.seconds * one.runs
        counts = (str(one.trials or MISSING), str(one.final), str(one.there))
        table.add_row(Text(one.cell), *counts, *known, duration(one.seconds), duration(of_all))
    seconds = total_seconds(expected)
    lines = [f"In all about {duration(seconds)} of training with one worker, and evaluation."]
    if currency != "updates":
        lines.append(f"Updates are the control's: arms get as many as cost the same {currency}.")
    return Group(table, Text(), *map(Text, lines))


def _table(analysis: Analysis) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("cell", overflow="fold", min_width=12)
    for name in ("runs", "mean", "sd", "diff.", "95 %", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for cell in analysis.cells:
        style = _STYLES.get(verdict_of(analysis, cell), "")
        table.add_row(Text(cell.name), *_numbers(analysis, cell), style=style)
    return table


def _numbers(analysis: Analysis, cell: CellAnalysis) -> list[str]:
    runs = f"{len(cell.seeds)}/{cell.wanted}" if cell.missing else str(len(cell.seeds))
    outcome, metric = analysis.leading(cell), analysis.measures[0].metric
    if outcome is None:
        return [runs, *(5 * [MISSING])]
    spread = None if math.isnan(outcome.spread) else outcome.spread
    found = [runs, metric.text(outcome.mean), metric.text(spread)]
    if outcome.difference is None or outcome.adjusted_p is None:
        return [*found, *(3 * ["" if cell.is_control else MISSING])]
    interval = outcome.difference.interval
    found.append(metric.text(interval.mean, sign=True))
    found.append(metric.interval(interval, sign=True) or MISSING)
    return [*found, p_text(outcome.adjusted_p)]


def as_dict(analysis: Analysis) -> dict[str, Any]:
    """The analysis as plain values, with the verdict of each cell; what is not known is None."""
    found = _plain(asdict(analysis))
    for plain, cell in zip(found["cells"], analysis.cells, strict=True):
        outcome = analysis.leading(cell)
        plain["verdict"] = verdict_of(analysis, cell)
        plain["confirmed"] = outcome is not None and is_confirmed(outcome)
        plain["words"] = cell_sentence(analysis, cell)
    found["verdict"] = verdict_sentences(analysis)
    found["missing"] = analysis.num_missing
    return found


def _plain(value: Any) -> Any:
    """Values as JSON has them, which knows no NaN."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_csv(results: Sequence[Result]) -> str:
    """One row for each final run: cell, settings, seeds, measures, closeness, and what it cost."""
    rows = [_row(result) for result in results if result.role == "final"]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _row(result: Result) -> dict[str, Any]:
    row: dict[str, Any] = {"cell": result.cell, "arm": result.arm}
    row |= dict(result.levels)
    row |= {f"tuned {name}": label for name, label in result.tuned.items()}
    row |= {f"{job} seed": seed for job, seed in result.seeds.items()}
    row |= {key: scores.mean for key, scores in result.scores.items()}
    row |= {f"agreement {name}": value for name, value in result.agreement.items()}
    if result.ledger is not None:
        row |= {
            "updates": result.ledger.updates,
            "student tokens": result.ledger.student_tokens,
            "FLOPs": result.ledger.amount("flops"),
            "seconds": result.ledger.amount("seconds"),
        }
        row |= {f"FLOPs {name}": value for name, value in result.ledger.flops.items()}
        row |= {f"seconds {name}": value for name, value in result.ledger.seconds.items()}
    return row | {"run": result.key}
