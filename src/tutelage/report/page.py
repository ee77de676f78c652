"""One self-contained HTML page about a run: what was planned, what was done, what came out.

The page has its style and its pictures inside, runs no script and loads nothing. It can be written
at any time; what is not there yet is named instead of shown.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tutelage.files import atomic_write_text
from tutelage.printing import printable
from tutelage.report import page_tables as views
from tutelage.report.advice import advice
from tutelage.report.comparison import Comparison, compare
from tutelage.report.evaluation_views import overview_view
from tutelage.report.evaluations import of_run
from tutelage.report.gap_plot import gap_figure
from tutelage.report.loading import example_prompt, is_adapter, learned_opening, load_snippet
from tutelage.report.outcome_plots import (
    GroupScores,
    loss_figure,
    own_text_figure,
    results_figure,
)
from tutelage.report.plots import exposure_figure, plan_figure, profile_figure
from tutelage.report.quantities import count, duration, large, number
from tutelage.report.run import Arm, Run, alarms, learned, load_run
from tutelage.report.samples import SAMPLE_RULE, choose_samples, sample_view
from tutelage.report.svg import Picture
from tutelage.report.tables import plan_totals
from tutelage.report.templating import render
from tutelage.report.verdict import best_control, leading, teacher_warning, worked, worth

REPORT_NAME = "report.html"
_SECTIONS = (
    ("results", "Results"),
    ("next", "Use the student"),
    ("data", "Data"),
    ("difficulty", "Difficulty"),
    ("plan", "Plan"),
    ("training", "Training"),
    ("samples", "Sample answers"),
    ("reproduce", "How to reproduce"),
)


def write_report(run_dir: str | Path, output: str | Path | None = None) -> Path:
    """Write the page of a run, wholly or not at all.

    Args:
        run_dir: the run folder; the run may be unfinished.
        output: the page; None: ``report.html`` in the run folder.

    Returns:
        The path of the page. The same files always give the same page.

    Raises:
        RunFolderError: there is no such folder, one of its files is broken, or it is read-only.
    """
    run = load_run(run_dir)
    path = Path(output) if output else run.folder / REPORT_NAME
    atomic_write_text(path, render_report(run))
    return path


def summary_of(run: Run) -> dict[str, Any]:
    """What the first screen says, as plain values."""
    comparison = compare(run)
    return {
        "run": str(run.folder),
        "worked": list(worked(comparison)),
        "worth": list(_worth(run, comparison)),
        "warning": teacher_warning(comparison),
        "next": [asdict(one) for one in advice(run, comparison)],
        "scores": {
            model.name: {
                name: {"mean": score.mean, "interval": [score.low, score.high]}
                if score.known
                else {"mean": score.mean, "interval": None}
                for name, score in model.scores.items()
            }
            for model in comparison.models
        },
    }


def render_report(run: Run) -> str:
    """The page as text."""
    comparison = compare(run)
    return render(
        "report.html",
        sections=_SECTIONS,
        title=run.title,
        name=run.info.get("name", ""),
        description=run.info.get("description", ""),
        paper=str(run.info.get("paper") or "").rstrip("."),
        worked=worked(comparison),
        worth=_worth(run, comparison),
        picture=gap_figure(comparison),
        advice=advice(run, comparison),
        teacher_warning=teacher_warning(comparison),
        warned=_plan_warnings(run.arms[:1]),
        plan_warnings=_plan_warnings(run.arms[1:]),
        alarms=_alarms(run),
        caution=_caution(comparison),
        next=_next(run),
        facts=_facts(run),
        waiting=[arm.name for arm in run.arms if arm.evaluation is None],
        main_arm=run.main.name if run.main else "",
        **_results(comparison),
        suites=overview_view(of_run(run)),
        **_data(run),
        **_difficulty(run),
        plans=[_plan(arm) for arm in run.arms if arm.plan.get("stages")],
        curves=loss_figure(
            {arm.name: arm.metrics for arm in run.arms},
            {arm.name: arm.validation for arm in run.arms},
        ),
        own_text=own_text_figure({arm.name: arm.metrics for arm in run.arms}),
        progress=views.progress_view(run),
        samples=[sample_view(sample, comparison) for sample in choose_samples(comparison)],
        sample_rule=SAMPLE_RULE,
        recipe=run.recipe,
        identity=views.identity_view(run),
        times=views.times_view(run),
        versions=views.versions_view(run),
    )


def _worth(run: Run, comparison: Comparison) -> tuple[str, ...]:
    """What the method bought beside the best control, and how long both took to train."""
    if leading(comparison) is None:
        return ("Nothing is known of that before the arms are evaluated.",)
    best = best_control(comparison)
    if best is None:
        return ("Nothing was trained beside it, so nothing says what the method bought.",)
    times = {arm.name: learned(arm.metrics)[1] for arm in run.arms}
    ours, theirs = times.get(run.arms[0].name, 0.0), times.get(best.name, 0.0)
    if not ours or not theirs:
        return worth(comparison)
    took = f"{run.arms[0].name} trained for {duration(ours)}, {best.name} for {duration(theirs)}."
    return (*worth(comparison), took)


def _caution(comparison: Comparison) -> str:
    """What the intervals do not cover; empty when there is nothing to compare."""
    if len(comparison.arms) < 2:
        return ""
    return (
        "One training run for each arm: the intervals cover the choice of test examples, not the"
        " luck of a training seed. Repeat with other seeds before believing a small difference."
    )


def _plan_warnings(arms: Sequence[Arm]) -> list[dict[str, str]]:
    """What the plans warned of, once each, with the arms that it is about."""
    said: dict[str, list[str]] = {}
    for arm in arms:
        for warning in arm.plan.get("warnings") or []:
            said.setdefault(str(warning), []).append(arm.name)
    return [{"arms": ", ".join(arms), "text": text} for text, arms in said.items()]


def _alarms(run: Run) -> list[dict[str, Any]]:
    """What was raised while arms learned from their own answers."""
    return [
        {"arm": arm.name, "step": count(step), "text": text[:1].upper() + text[1:]}
        for arm in run.arms
        for step, text in alarms(arm.metrics)
    ]


def _next(run: Run) -> dict[str, Any] | None:
    """Where the students are and the commands that go on from here; None before there is one."""
    students = [arm for arm in run.arms if arm.has_student]
    if not students:
        return None
    again = f"tutelage run {shlex.quote(run.place + '/recipe.yaml')}"
    seed = int((run.info.get("seeds") or {}).get("student", 0))
    return {
        "students": [
            {"name": arm.name, "place": f"{run.place}/arms/{arm.name}/student"} for arm in students
        ],
        "load": load_snippet(
            f"{run.place}/arms/{students[0].name}/student",
            *example_prompt(run),
            adapter=is_adapter(run, students[0].name),
            opening=learned_opening(run),
        ),
        "seeds": [f"{again} --set seeds.student={seed + more}" for more in (1, 2)],
        "answers": f"{run.place}/arms/{students[0].name}/evaluation/answers.jsonl",
    }


def _facts(run: Run) -> list[dict[str, str]]:
    """The few numbers that say what kind of run this is."""
    facts: list[dict[str, str]] = []
    for key in ("student", "teacher"):
        model = run.info.get(key)
        if model:
            facts.append(
                {
                    "name": key.capitalize(),
                    "text": f"{large(model.get('parameters'))} parameters",
                    "note": str(model.get("name", "")),
                }
            )
    train = run.data.get("train") or {}
    if train:
        tokens = f"{large(train.get('response_tokens'))} response tokens"
        facts.append(
            {"name": "Training examples", "text": count(train.get("kept")), "note": tokens}
        )
    if run.main and run.main.plan:
        steps, plain = run.main.plan.get("total_steps"), run.main.plan.get("baseline_steps")
        facts.append(
            {
                "name": "Optimizer steps",
                "text": count(steps),
                "note": f"plain run: {count(plain)}" if plain else "",
            }
        )
    if len(run.arms) > 1:
        names = ", ".join(arm.name for arm in run.arms)
        facts.append({"name": "Arms", "text": str(len(run.arms)), "note": names})
    seconds = run.info.get("seconds") or {}
    if seconds:
        total = duration(sum(seconds.values()))
        finished = "" if run.info.get("finished") else "not finished"
        facts.append({"name": "Time", "text": total, "note": finished})
    return facts


def _results(comparison: Comparison) -> dict[str, Any]:
    """Tables for all metrics, and a picture and a table by group for the first one."""
    results: dict[str, Any] = {
        "results": views.results_views(comparison),
        "by_group": None,
        "group_figures": [],
        "agreement": views.agreement_view(comparison),
    }
    shown = [model for model in comparison.models if model.kind != "last"]
    if not comparison.groups or not shown:
        return results
    results["by_group"] = views.group_view(comparison, shown)
    metric = comparison.metrics[0]
    models = [
        GroupScores(
            model.name,
            {
                printable(group): views.scaled(value, metric.scale)
                for group, value in comparison.by_group(model, metric).items()
            },
            reference=not model.is_arm,
        )
        for model in shown
    ]
    results["group_figures"] = [results_figure(models, metric.label)]
    return results


def _data(run: Run) -> dict[str, Any]:
    train = run.data.get("train") or {}
    return {
        "data": views.data_view(run),
        "texts": views.texts_view(run),
        "template": str(train.get("template") or ""),
    }


def _difficulty(run: Run) -> dict[str, Any]:
    """The profile's picture, a sentence about it, and its means by group."""
    summary = run.difficulty
    unit = str(summary.get("unit") or "nats per token")
    profile: Picture | None = None
    if run.scores.size:
        stages = run.main.plan.get("stages") or () if run.main else ()
        profile = profile_figure(run.scores, unit=unit, stages=stages)
    text = ""
    if summary:
        quantiles = summary.get("quantiles") or {}
        estimate = summary.get("estimate") or {}
        measured = f"{count(estimate.get('num_sampled', summary.get('num_examples')))} examples"
        if estimate:
            measured += f", and estimated for the other {count(_unmeasured(estimate))}"
        text = (
            f"Measured by {str(summary.get('measure', 'difficulty')).replace('_', ' ')} on"
            f" {measured}, in {unit}: mean"
            f" {number(summary.get('mean'))}, standard deviation {number(summary.get('std'))}, from"
            f" {number(summary.get('min'))} to {number(summary.get('max'))}; the middle half lies"
            f" between {number(quantiles.get('0.25'))} and {number(quantiles.get('0.75'))}."
        )
    return {
        "profile": profile,
        "difficulty_text": text,
        "difficulty_groups": views.difficulty_view(run),
    }


def _unmeasured(estimate: Mapping[str, Any]) -> int:
    """Examples whose difficulty was estimated from those that were measured."""
    return int(estimate["num_examples"]) - int(estimate["num_sampled"])


def _plan(arm: Arm) -> dict[str, Any]:
    exposure = arm.plan.get("exposure") or []
    return {
        "name": arm.name,
        "warnings": arm.plan.get("warnings") or [],
        "stages": views.stages_view(arm),
        "totals": plan_totals(arm.plan),
        "figure": plan_figure(arm.plan["stages"], arm.steps),
        "exposure": views.exposure_view(arm) if exposure else None,
        "exposure_figure": exposure_figure(exposure) if exposure else None,
    }
