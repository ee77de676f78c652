"""The tables of a study's page as plain values."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tutelage.report.page_tables import Cell, Row, View
from tutelage.report.quantities import (
    MISSING,
    count,
    duration,
    flops,
    large,
    metric_words,
    number,
    percent,
)
from tutelage.studies.analysis import Analysis, Measure, Outcome
from tutelage.studies.results import Result
from tutelage.studies.trials import Race, Trial
from tutelage.studies.verdicts import currency_words, p_text, verdict_of

_REFERENCES = {"teacher": "teacher", "student_before": "student before"}


def results_view(analysis: Analysis) -> View:
    """Every cell by every measure, with its difference to the control."""
    headers = ["cell", "verdict", "runs"]
    for measure in analysis.measures:
        headers += [measure.label, "minus control", "p"]
    rows = []
    for cell in analysis.cells:
        against = "" if cell.is_control else f"against {cell.control}"
        cells = [Cell(verdict_of(analysis, cell), against if len(cell.control) < 20 else "")]
        cells.append(Cell(count(len(cell.seeds)), f"of {cell.wanted}" if cell.missing else ""))
        for measure in analysis.measures:
            cells += _outcome_cells(measure, cell.outcomes.get(measure.key))
        rows.append(Row(cell.name, tuple(cells), "main" if cell.is_control else ""))
    for name, words in _REFERENCES.items():
        if name in analysis.references:
            rows.append(Row(words, tuple(_reference_cells(analysis, name)), "reference"))
    caption = (
        "Means over seeds, with their standard deviation; differences with 95 % intervals; p after"
        " Holm's adjustment for all cells, with p alone and the least there could be"
    )
    return View(caption, tuple(headers), tuple(rows))


def _outcome_cells(measure: Measure, outcome: Outcome | None) -> list[Cell]:
    if outcome is None:
        return 3 * [Cell(MISSING)]
    metric = measure.metric
    spread = "" if math.isnan(outcome.spread) else f"sd {metric.text(outcome.spread)}"
    found = outcome.difference
    if found is None or outcome.adjusted_p is None:
        return [Cell(metric.text(outcome.mean), spread), Cell(""), Cell("")]
    interval = found.interval
    note = f"{p_text(found.test.p)}, least {p_text(found.test.least_p)}"
    return [
        Cell(metric.text(outcome.mean), spread),
        Cell(metric.text(interval.mean, sign=True), metric.interval(interval, sign=True)),
        Cell(p_text(outcome.adjusted_p), note),
    ]


def _reference_cells(analysis: Analysis, name: str) -> list[Cell]:
    means = analysis.references[name]
    cells = [Cell(""), Cell("")]
    for measure in analysis.measures:
        known = measure.key in means
        cells.append(Cell(measure.metric.text(means[measure.key]) if known else MISSING))
        cells += [Cell(""), Cell("")]
    return cells


def seeds_view(analysis: Analysis) -> View | None:
    """The leading measure of every run, and its difference to the control's run."""
    seeds = list(dict.fromkeys(s for c in analysis.cells for s in (*c.seeds, *c.missing)))
    if not analysis.measures or not seeds:
        return None
    metric, rows = analysis.measures[0].metric, []
    by_name = {cell.name: cell for cell in analysis.cells}
    for cell in analysis.cells:
        outcome, control = analysis.leading(cell), by_name.get(cell.control)
        own = {} if outcome is None else outcome.by_seed
        other = analysis.leading(control) if control is not None else None
        cells = []
        for seed in seeds:
            if seed not in own:
                cells.append(Cell(MISSING))
                continue
            note = ""
            if not cell.is_control and other is not None and seed in other.by_seed:
                note = metric.text(own[seed] - other.by_seed[seed], sign=True)
            cells.append(Cell(metric.text(own[seed]), note))
        rows.append(Row(cell.name, tuple(cells), "main" if cell.is_control else ""))
    caption = f"{analysis.measures[0].label} of each run, with its difference to the control's run"
    return View(caption, ("cell", *(f"seed {seed}" for seed in seeds)), tuple(rows))


def groups_view(analysis: Analysis) -> View | None:
    """The leading measure by group, with the differences; None where examples have no groups."""
    if len(analysis.groups) < 2:
        return None
    metric, rows = analysis.measures[0].metric, []
    for cell in analysis.cells:
        cells = []
        for group in analysis.groups:
            outcome = cell.groups.get(group)
            if outcome is None:
                cells.append(Cell(MISSING))
                continue
            note = ""
            if outcome.difference is not None:
                interval = outcome.difference.interval
                note = metric.text(interval.mean, sign=True)
                if interval.known:
                    note += f" ({metric.interval(interval, sign=True)})"
            cells.append(Cell(metric.text(outcome.mean), note))
        rows.append(Row(cell.name, tuple(cells), "main" if cell.is_control else ""))
    caption = f"{analysis.measures[0].label} by group; below each, minus control with 95 % interval"
    return View(caption, ("cell", *analysis.groups), tuple(rows))


def cost_view(analysis: Analysis) -> View | None:
    """What one run of each cell costs; None while that is not known."""
    known = [(cell, cell.cost) for cell in analysis.cells if cell.cost is not None]
    if not known:
        return None
    purposes = list(dict.fromkeys(name for _, cost in known for name in cost.flops))
    rows = []
    for cell, cost in known:
        excess = MISSING if cost.excess is None else f"{100 * cost.excess:+.1f} %"
        cells = [count(cost.updates), large(cost.student_tokens), flops(sum(cost.flops.values()))]
        cells += [flops(cost.flops.get(name, 0.0)) for name in purposes]
        cells += [duration(sum(cost.seconds.values())) if cost.seconds else MISSING]
        cells += ["" if cell.is_control else excess]
        rows.append(Row(cell.name, tuple(map(Cell, cells)), "main" if cell.is_control else ""))
    headers = ("cell", "updates", "student tokens", "FLOPs", *(f"of them {p}" for p in purposes))
    equal = currency_words(analysis.currency)
    caption = f"What one run costs, mean over seeds; the study asks for equal {equal}"
    return View(caption, (*headers, "time", f"{equal} against control"), tuple(rows))


def race_view(race: Race) -> View:
    """The trials of a cell, rung by rung."""
    steps = sorted({step for trial in race.trials for step, _ in trial.rungs})
    rows = [
        Row(trial.settings, tuple(_rung_cells(trial, steps)), "main" if trial.chosen else "")
        for trial in race.trials
    ]
    caption = f"{race.cell}: {metric_words(race.measure)} after so many updates"
    return View(caption, ("setting", *(f"after {count(s)}" for s in steps), "outcome"), tuple(rows))


def _rung_cells(trial: Trial, steps: Sequence[int]) -> list[Cell]:
    known = dict(trial.rungs)
    cells = []
    for step in steps:
        if step not in known:
            cells.append(Cell(""))
        else:
            value = known[step]
            cells.append(Cell("diverged" if value is None else number(value, 4)))
    return [*cells, Cell("chosen" if trial.chosen else "")]


def search_words(races: Sequence[Race]) -> str:
    """What the search cost, and what trying everything to its end would have."""
    made, whole = sum(race.updates for race in races), sum(race.whole for race in races)
    trials = sum(len(race.trials) for race in races)
    words = f"The search tried {count(trials)} settings in {count(made)} updates"
    if whole > made:
        words += f"; all of them to their end would have taken {count(whole)}"
        words += f" (it made {percent(made / whole, 0)} of them)"
    return f"{words}. It decided on the validation data, and with seeds that no final run has."


def chosen_view(analysis: Analysis) -> View | None:
    """Which settings the final runs of each cell have; None where nothing was tuned."""
    tuned = [cell for cell in analysis.cells if cell.tuned]
    if not tuned:
        return None
    rows = tuple(Row(cell.name, (Cell("; ".join(cell.tuned)),)) for cell in tuned)
    return View("Settings that the search chose", ("cell", "settings"), rows)


def versions_view(results: Sequence[Result]) -> View | None:
    """Versions and machine; where runs differ, all that there were."""
    found: dict[str, dict[str, None]] = {}
    for result in results:
        for name, value in result.versions.items():
            found.setdefault(name, {})[str(value)] = None
    if not found:
        return None
    rows = tuple(Row(name, (Cell("; ".join(values)),)) for name, values in found.items())
    return View("Versions and machine", ("what", "value"), rows)


def facts(analysis: Analysis, seeds: Sequence[Mapping[str, int]]) -> list[dict[str, str]]:
    """The few numbers that say how much was run."""
    wanted = sum(cell.wanted for cell in analysis.cells)
    there = wanted - analysis.num_missing
    found: list[dict[str, Any]] = [
        {"name": "Cells", "text": count(len(analysis.cells)), "note": ""},
        {"name": "Seeds", "text": count(len(seeds)), "note": "of each cell"},
        {
            "name": "Runs",
            "text": count(there),
            "note": f"of {count(wanted)}" if there < wanted else "all there",
        },
    ]
    examples = [
        outcome.difference.num_examples
        for cell in analysis.compared
        if (outcome := analysis.leading(cell)) is not None and outcome.difference is not None
    ]
    if examples:
        found.append({"name": "Test examples", "text": count(max(examples)), "note": "of each run"})
    known = [
        abs(cell.cost.excess)
        for cell in analysis.compared
        if cell.cost is not None and cell.cost.excess is not None
    ]
    if known:
        note = f"largest deviation {100 * max(known):.1f} %"
        found.append({"name": "Equal", "text": currency_words(analysis.currency), "note": note})
    return found
