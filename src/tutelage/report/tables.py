"""The plan, the exposure and the results as tables for an 80-column terminal.

They are ``rich`` renderables. Nothing is told by colour alone, and they are readable without any
(``NO_COLOR``, pipes).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tutelage.report.comparison import OVERALL, Comparison, Metric, Model, compare
from tutelage.report.quantities import count, fixed, number, small
from tutelage.report.run import Run
from tutelage.report.verdict import teacher_warning, verdict

# Below these shares of a plain run's visits x learning rate a tenth is marked.
LITTLE = 0.25
ALMOST_NOTHING = 0.1
_WIDTH, _GROUP_WIDTH, _SCORE_WIDTH = 80, 55, 12


def exposure_rows(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Exposure per example instead of per tenth, with its share of a plain run and a mark.

    Args:
        plan: ``plan.json``; its ``exposure`` holds totals over the examples of each tenth.

    Returns:
        One row for each tenth that has examples: ``tenth``, ``visits``, ``plain_visits``,
        ``lr_visits``, ``plain_lr_visits``, ``teacher_visits`` (all per example), ``share``
        (``lr_visits`` / ``plain_lr_visits``) and ``teacher_share`` (the same of the teacher's
        part), both None when a plain run gives nothing, and ``mark``.
    """
    exposure = plan.get("exposure") or []
    with_teacher = any(row["teacher_visits"] > 0 for row in exposure)
    # A plain run has the same cross-entropy beside its teacher.
    stages = plan.get("stages") or []
    steps = sum(stage["steps"] for stage in stages)
    taught = sum(stage["steps"] * (1 - stage["ce_weight"]) for stage in stages) / max(steps, 1)
    rows = []
    for row in exposure:
        size = row["num_examples"]
        if size == 0:
            continue
        per_example = {key: row[key] / size for key in row if key.endswith("visits")}
        plain = row["plain_lr_visits"]
        share = row["lr_visits"] / plain if plain > 0 else None
        plain_teacher = plain * taught
        teacher_share = row["teacher_visits"] / plain_teacher if plain_teacher > 0 else None
        rows.append(
            {
                "tenth": row["tenth"],
                **per_example,
                "share": share,
                "teacher_share": teacher_share,
                "mark": _mark(share, teacher_share if with_teacher else None),
            }
        )
    return rows


def _mark(share: float | None, teacher_share: float | None) -> str:
    """Words for a tenth that gets little in all, or little of the teacher; mostly empty."""
    marks = []
    if share is not None and share < ALMOST_NOTHING:
        return "almost nothing"
    if share is not None and share < LITTLE:
        marks.append("little")
    if teacher_share is not None and teacher_share < ALMOST_NOTHING:
        marks.append("hardly any teacher")
    return ", ".join(marks)


def plan_table(plan: Mapping[str, Any]) -> RenderableType:
    """The stages of a plan, with totals against a plain run and the plan's warnings.

    Args:
        plan: ``plan.json``.
    """
    table = _table()
    headers = ("#", "exam-\nples", "mean\ndiff.", "target\ndiff.", "passes", "steps")
    headers += ("student\nshare", "temp.", "CE\nweight")
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("teacher", overflow="fold")
    for stage in plan.get("stages") or []:
        table.add_row(
            str(stage["stage"]),
            count(stage["num_examples"]),
            number(stage["mean_difficulty"]),
            number(stage.get("target_difficulty")),
            number(stage["passes"]),
            count(stage["steps"]),
            fixed(stage["student_share"]),
            fixed(stage["distill_temperature"]),
            fixed(stage["ce_weight"]),
            Text(str(stage.get("teacher") or "-")),
        )
    title = _title(f"Plan: {plan.get('recipe', '')}")
    parts: list[RenderableType] = [title, table, Text(plan_totals(plan))]
    parts += [Text(f"Warning: {warning}", style="bold") for warning in plan.get("warnings") or []]
    return Group(*parts)


def plan_totals(plan: Mapping[str, Any]) -> str:
    """Steps of the plan against a plain run, in a sentence."""
    total, baseline = plan.get("total_steps"), plan.get("baseline_steps")
    text = f"{count(total)} optimizer steps over {count(plan.get('num_examples'))} examples"
    if total is None or not baseline:
        return f"{text}."
    if total == baseline:
        return f"{text}, as many steps as a plain run."
    return f"{text}; a plain run makes {count(baseline)} ({100 * total / baseline:.0f} % of it)."


def exposure_table(plan: Mapping[str, Any]) -> RenderableType:
    """What an example of each tenth of difficulty gets, with a mark where that is little.

    Args:
        plan: ``plan.json``.
    """
    table = _table()
    headers = ("tenth", "visits", "plain\nvisits", "visits\nx lr", "plain\nx lr", "% of\nplain")
    for header in (*headers, "visits x lr\nx teacher"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("")
    for row in exposure_rows(plan):
        table.add_row(
            str(row["tenth"]),
            small(row["visits"]),
            small(row["plain_visits"]),
            small(row["lr_visits"]),
            small(row["plain_lr_visits"]),
            "-" if row["share"] is None else f"{100 * row['share']:.0f}",
            small(row["teacher_visits"]),
            Text(f"<- {row['mark']}" if row["mark"] else "", style="bold"),
        )
    note = "lr: learning rate as a share of its peak. teacher: its share of the loss."
    title = _title("Exposure per example, by tenth of difficulty (1 = easiest)")
    return Group(title, table, Text(note, style="dim"))


def results_table(run: Run) -> RenderableType:
    """Metrics of every model with 95 % intervals, paired differences, groups, and the verdict.

    Args:
        run: what ``load_run`` read.
    """
    comparison = compare(run)
    if not comparison.models:
        return Text("Nothing has been evaluated yet.")
    parts: list[RenderableType] = []
    for metric in comparison.metrics:
        title = _title(f"Test set: {metric.label}")
        parts += [title, _metric_table(comparison, metric), Text()]
    if comparison.groups:
        metric = comparison.metrics[0]
        parts.append(_title(f"By group: {metric.label}"))
        models = [model for model in comparison.models if model.kind != "last"]
        # A group's name stands on one line: long names leave room for fewer models.
        longest = min(max(map(cell_len, ("group", *comparison.groups))), _GROUP_WIDTH)
        at_once = max(1, (_WIDTH - longest - 1) // _SCORE_WIDTH)
        for start in range(0, len(models), at_once):
            shown = models[start : start + at_once]
            parts += [_group_table(comparison, metric, shown), Text()]
    parts += [Text(sentence) for sentence in verdict(comparison)]
    if warning := teacher_warning(comparison):
        parts += [Text(), Text(f"Warning: {warning}", style="bold")]
    return Group(*parts)


def _metric_table(comparison: Comparison, metric: Metric) -> Table:
    table = _table()
    table.add_column("model", overflow="fold", max_width=26)
    table.add_column(metric.words, justify="right", max_width=12)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    main = comparison.of_kind("main")
    if main is not None:
        table.add_column(Text(f"{main.name} minus it"), justify="right", max_width=14)
        table.add_column("95 % interval", justify="right", no_wrap=True)
    for model in comparison.models:
        score, difference = model.scores.get(metric.name), model.differences.get(metric.name)
        cells = [Text(model.name, style="bold" if model is main else "")]
        cells.append(Text(metric.text(score.mean if score else None)))
        cells.append(Text(metric.interval(score) if score else ""))
        if main is not None:
            value = difference.interval if difference else None
            cells.append(Text(metric.text(value.mean, sign=True) if value else ""))
            cells.append(Text(metric.interval(value, sign=True) if value else ""))
        table.add_row(*cells)
    return table


def _group_table(comparison: Comparison, metric: Metric, models: Sequence[Model]) -> Table:
    table = _table()
    table.add_column("group", overflow="fold", max_width=_GROUP_WIDTH)
    for model in models:
        table.add_column(
            Text(model.name), justify="right", overflow="fold", max_width=_SCORE_WIDTH - 1
        )
    scores = [comparison.by_group(model, metric) for model in models]
    for group in (*comparison.groups, OVERALL):
        values = [found.get(group) for found in scores]
        cells = [metric.text(value.mean if value else None) for value in values]
        table.add_row(Text(group), *cells)
    return table


def _title(text: str) -> Text:
    # Not rich's own title, which breaks over lines where the table is narrow.
    return Text(text, style="bold")


def _table() -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
