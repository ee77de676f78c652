"""The tables of the HTML page as plain values: a caption, headers, and rows of cells."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.report.comparison import OVERALL, Comparison, Metric, Model, natural
from tutelage.report.quantities import (
    MISSING,
    count,
    duration,
    fixed,
    number,
    percent,
    seeds_text,
    small,
)
from tutelage.report.run import Arm, Run, learned
from tutelage.report.tables import exposure_rows
from tutelage.statistics import Interval

_AGREEMENT = (
    ("top1_agreement", "same top token"),
    ("forward_kl", "forward KL (nats)"),
    ("reverse_kl", "reverse KL (nats)"),
    ("student_nll", "student's NLL"),
    ("teacher_nll", "teacher's NLL"),
    ("num_tokens", "tokens"),
)
_COUNTS = (
    ("loaded", "examples loaded"),
    ("kept", "examples kept"),
    ("duplicates", "exact copies left out"),
    ("prompt_tokens", "prompt tokens"),
    ("response_tokens", "response tokens"),
    ("total_tokens", "tokens in all"),
)


@dataclass(frozen=True)
class Cell:
    """A value, with a smaller note below it; ``mark`` says that it calls for attention."""

    text: str
    note: str = ""
    mark: bool = False


@dataclass(frozen=True)
class Row:
    """A row; ``kind`` is its class in the style sheet (``main``, ``reference`` or empty)."""

    name: str
    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True)
class View:
    """A table."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[Row, ...]


def scaled(value: Interval, scale: float) -> Interval:
    """An interval in other units."""
    return Interval(scale * value.mean, scale * value.low, scale * value.high)


def results_views(comparison: Comparison) -> list[View]:
    """One table for each metric: mean, interval, and difference from the main arm."""
    main = comparison.of_kind("main")
    views = []
    for metric in comparison.metrics:
        headers = ["model", metric.label]
        if main is not None:
            headers.append(f"{main.name} minus this model")
        headers += ["sampling seeds", "cut at the limit", "examples"]
        rows = [
            Row(model.name, tuple(_result_cells(model, metric, main)), _row_kind(model))
            for model in comparison.models
            if metric.name in model.scores
        ]
        direction = "lower is better" if metric.lower_is_better else "higher is better"
        caption = f"{metric.words}, mean with 95 % interval; {direction}"
        views.append(View(caption, tuple(headers), tuple(rows)))
    return views


def _result_cells(model: Model, metric: Metric, main: Model | None) -> Iterable[Cell]:
    score = model.scores[metric.name]
    yield Cell(metric.text(score.mean), metric.interval(score))
    if main is not None:
        difference = model.differences.get(metric.name)
        if difference is None:
            yield Cell("" if model is main else MISSING)
        else:
            value = difference.interval
            note = metric.interval(value, sign=True)
            if difference.num_examples < model.evaluated.num_examples:
                note += f" (over {count(difference.num_examples)} examples)"
            yield Cell(metric.text(value.mean, sign=True), note)
    seeds = [float(seed) for seed in model.evaluated.scores[metric.name].get("seeds") or []]
    spread = f"{metric.text(min(seeds))} to {metric.text(max(seeds))}" if len(seeds) > 1 else ""
    yield Cell(str(len(seeds)) if seeds else MISSING, spread)
    yield Cell(percent(model.evaluated.truncated))
    yield Cell(count(model.evaluated.num_examples))


def _row_kind(model: Model) -> str:
    if model.kind == "main":
        return "main"
    return "reference" if model.kind in ("teacher", "weaker", "before") else ""


def group_view(comparison: Comparison, models: Sequence[Model]) -> View:
    """The first metric by group, one column for each model."""
    metric = comparison.metrics[0]
    scores = [comparison.by_group(model, metric) for model in models]
    rows = []
    for group in (*comparison.groups, OVERALL):
        cells = []
        for found in scores:
            value = found.get(group)
            cells.append(
                Cell(metric.text(value.mean), metric.interval(value)) if value else Cell(MISSING)
            )
        rows.append(Row(group, tuple(cells), "main" if group == OVERALL else ""))
    caption = f"{metric.label} by group, with 95 % intervals"
    return View(caption, ("group", *(model.name for model in models)), tuple(rows))


def agreement_view(comparison: Comparison) -> View | None:
    """How close each model is to the teacher; None when it was not measured."""
    measured = [model for model in comparison.models if model.evaluated.agreement]
    if not measured:
        return None
    rows = []
    for model in measured:
        found = model.evaluated.agreement
        cells = [percent(found.get("top1_agreement"))]
        cells += [number(found.get(key)) for key, _ in _AGREEMENT[1:-1]]
        cells.append(count(found.get("num_tokens")))
        rows.append(Row(model.name, tuple(map(Cell, cells)), _row_kind(model)))
    return View("Agreement per token", ("model", *(label for _, label in _AGREEMENT)), tuple(rows))


_PARTS = (
    ("dropped", "dropped"),
    ("cut", "cut"),
    ("not_learned", "not learned"),
    ("groups", "group"),
)
"""Counts by name in the summary of a split, and how their rows are called."""


def data_view(run: Run) -> View | None:
    """Counts by split, with what was dropped, cut or not learned, and the groups."""
    splits = {name: split for name, split in run.data.items() if isinstance(split, dict)}
    if not splits:
        return None
    rows = []
    for key, label in _COUNTS:
        counts = (_count(split.get(key)) for split in splits.values())
        rows.append(Row(label, tuple(Cell(count(value)) for value in counts)))
    for field, label in _PARTS:
        names = {name: None for split in splits.values() for name in split.get(field) or {}}
        for name in sorted(names, key=natural) if field == "groups" else names:
            values = [(split.get(field) or {}).get(name, 0) for split in splits.values()]
            rows.append(Row(f"{label}: {name}", tuple(Cell(count(value)) for value in values)))
    rows += _source_rows(list(splits.values()))
    return View("Examples and tokens by split", ("count", *splits), tuple(rows))


def _source_rows(splits: Sequence[Mapping[str, Any]]) -> list[Row]:
    """How many examples came from each source, where there are several."""
    kept = [{one["source"]: one["kept"] for one in split.get("sources") or ()} for split in splits]
    names = dict.fromkeys(name for found in kept for name in found)
    return [
        Row(f"from {name}", tuple(Cell(count(found.get(name, 0))) for found in kept))
        for name in names
    ]


def texts_view(run: Run) -> View | None:
    """What became of the answers that teachers wrote; None where they wrote none."""
    columns = [
        (f"{arm.name}, {teacher}", counts)
        for arm in run.arms
        for teacher, counts in arm.texts.items()
    ]
    names = {name: None for _, counts in columns for name, number in counts.items() if number}
    if not names:
        return None
    rows = tuple(
        Row(name.replace("_", " "), tuple(Cell(count(counts.get(name))) for _, counts in columns))
        for name in names
    )
    caption = "Answers that teachers wrote, by arm and teacher"
    return View(caption, ("count", *(title for title, _ in columns)), rows)


def _count(value: Any) -> float | None:
    """A count; of duplicates those that are not among the examples."""
    return value.get("left_out") if isinstance(value, dict) else value


def difficulty_view(run: Run) -> View | None:
    """Mean difficulty by group; None when examples have no groups."""
    groups = run.difficulty.get("groups") or {}
    if len(groups) < 2:
        return None
    rows = tuple(
        Row(str(group), (Cell(number(found.get("mean"))), Cell(count(found.get("count")))))
        for group, found in sorted(groups.items(), key=lambda item: natural(str(item[0])))
    )
    unit = run.difficulty.get("unit", "")
    return View("Difficulty by group", ("group", f"mean ({unit})", "examples"), rows)


def stages_view(arm: Arm) -> View:
    """The stages of an arm's plan."""
    rows = []
    for stage in arm.plan["stages"]:
        cells = (
            count(stage["num_examples"]),
            number(stage["mean_difficulty"]),
            number(stage.get("target_difficulty")),
            number(stage["passes"]),
            count(stage["steps"]),
            fixed(stage["student_share"]),
            fixed(stage["distill_temperature"]),
            fixed(stage["ce_weight"]),
            str(stage.get("teacher") or MISSING),
        )
        rows.append(Row(str(stage["stage"]), tuple(map(Cell, cells))))
    headers = ("stage", "examples", "mean difficulty", "target", "passes", "steps")
    headers += ("student's share", "temperature", "CE weight", "teacher")
    return View(f"Stages of {arm.name}", headers, tuple(rows))


def exposure_view(arm: Arm) -> View:
    """What an example of each tenth gets, against a plain run."""
    rows = []
    for row in exposure_rows(arm.plan):
        cells = [
            Cell(small(row[key]))
            for key in ("visits", "plain_visits", "lr_visits", "plain_lr_visits")
        ]
        cells.append(Cell(percent(row["share"], 0)))
        cells.append(Cell(small(row["teacher_visits"])))
        cells.append(Cell(row["mark"], mark=True))
        rows.append(Row(str(row["tenth"]), tuple(cells)))
    headers = ("tenth", "visits", "plain run", "visits x lr", "plain run", "of plain run")
    headers += ("visits x lr x teacher's share", "note")
    return View(
        f"Exposure per example under {arm.name}; tenth 1 is the easiest", headers, tuple(rows)
    )


def progress_view(run: Run) -> View | None:
    """How far each arm's training has come; None when nothing was logged."""
    rows = []
    for arm in run.arms:
        if not arm.metrics:
            continue
        last = arm.metrics[-1]
        tokens, seconds = learned(arm.metrics)
        cells = (
            count(last["step"]),
            count(arm.plan.get("total_steps")),
            number(last.get("loss")),
            count(tokens),
            duration(seconds),
            count(tokens / seconds) if seconds else MISSING,
        )
        rows.append(Row(arm.name, tuple(map(Cell, cells)), "main" if arm is run.main else ""))
    if not rows:
        return None
    headers = ("arm", "last logged step", "planned", "last loss", "response tokens", "time")
    headers += ("response tokens per second",)
    caption = "Training up to the last logged step; the time includes loading and validations"
    return View(caption, headers, tuple(rows))


def identity_view(run: Run) -> View | None:
    """What identifies the run."""
    keys = ("fingerprint", "seeds", "started", "finished")
    found = {key: run.info[key] for key in keys if run.info.get(key) is not None}
    if "seeds" in found:
        found["seeds"] = seeds_text(found["seeds"])
    return _pairs("Identity of the run", found)


def times_view(run: Run) -> View | None:
    """Time by stage of the pipeline."""
    seconds = run.info.get("seconds") or {}
    return _pairs("Time by stage", {name: duration(value) for name, value in seconds.items()})


def versions_view(run: Run) -> View | None:
    """Versions and machine."""
    return _pairs("Versions and machine", run.versions)


def _pairs(caption: str, values: dict[str, Any] | Any) -> View | None:
    if not values:
        return None
    rows = tuple(Row(str(name), (Cell(str(value)),)) for name, value in values.items())
    return View(caption, ("what", "value"), rows)
