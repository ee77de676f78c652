"""What can be seen before training: the difficulty profile and the plan with its cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tutelage.checks.places import check_folder_can_be
from tutelage.curriculum import describe_plan, load_plan
from tutelage.curriculum.subsets import prefix
from tutelage.difficulty import DIFFICULTIES, compare_profiles, load_profile
from tutelage.errors import ConfigError, unknown_name
from tutelage.files import read_json
from tutelage.pipeline.context.display import size_text
from tutelage.pipeline.context.inputs import STUDENT_START
from tutelage.pipeline.context.models import device
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.run import prepared
from tutelage.pipeline.stages.cost import Cost, cost_of
from tutelage.pipeline.stages.data import rows_of, source_notes
from tutelage.pipeline.stages.difficulty import measure_difficulty
from tutelage.pipeline.stages.memory import memory_of, too_little
from tutelage.pipeline.stages.metric import metric_lines
from tutelage.pipeline.stages.plan import compile_recipe, plan_notes
from tutelage.pipeline.stages.signal import decide_signals
from tutelage.pipeline.stages.student import STAGE
from tutelage.recipe import load_recipe
from tutelage.recipe.sections import DifficultySection
from tutelage.report.comparison import natural
from tutelage.report.pictures import plan_png
from tutelage.report.quantities import duration
from tutelage.types import DifficultyProfile

SIGNALS = {
    "live": "teacher: runs beside the student (signal: live)",
    "hidden": "teacher: its last hidden states are stored once, and then it is not in memory"
    " (signal: hidden)",
    "topk": "teacher: its likeliest tokens are stored once, and then it is not in memory"
    " (signal: topk)",
}


@dataclass(frozen=True)
class Shown:
    """Something to print.

    Attributes:
        description: plain values, for ``--json``.
        lines: further lines of text, for a person.
    """

    description: dict[str, Any]
    lines: tuple[str, ...]


def show_plan(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    arm: str | None = None,
    difficulty: Path | None = None,
    run_dir: Path | None = None,
    quiet: bool | None = None,
) -> Shown:
    """The plan of a recipe, described, drawn and costed.

    Args:
        recipe: name or path; with ``difficulty`` a bare method will do.
        overrides: ``a.b=c``.
        arm: which arm; None for the main one.
        difficulty: a file of scores; then no model is loaded and no cost is known.
        run_dir: the run folder.
        quiet: show no progress; None shows it on a terminal and in a notebook.

    Raises:
        ConfigError: the recipe has no such arm.
    """
    if difficulty is not None:
        return _plan_from_scores(recipe, overrides, arm, difficulty)
    loaded = load_recipe(recipe, overrides)
    name = _arm(list(loaded.arms), arm)
    # Written answers cost more than the plan is worth: the plan assumes that all will be kept.
    with prepared(recipe, overrides, run_dir=run_dir, quiet=quiet, texts=False) as session:
        return session.processes.by_first(_plan, session, name)


def _plan(session: Session, arm: str) -> Shown:
    folder = session.part(f"arms/{arm}/plan")
    description = read_json(folder / "plan.json")
    cost = cost_of(session, arm)
    signal = decide_signals(session).get(arm)
    picture = folder / "plan.png"
    if not picture.exists():  # of a run that drew nothing
        plan, profile = load_plan(folder), measure_difficulty(session, session.loaded.arms[arm])
        unit = read_json(session.part("difficulty/summary.json"))["unit"]
        plan_png(picture, description, plan, unit, profile.scores)
    metrics = list(metric_lines(session.loaded, rows_of(session, "test")))
    data = read_json(session.part("data") / "summary.json")
    sources = {split: found["sources"] for split, found in data.items() if "sources" in found}
    return Shown(
        {
            **description,
            **({"sources": sources} if sources else {}),
            "cost": cost.as_dict(),
            "signal": signal,
            "picture": str(picture),
        },
        (
            *(f"{split}: {line}" for split in sources for line in source_notes(data[split])),
            *description["notes"],
            *metrics,
            *([] if signal is None else [SIGNALS[signal]]),
            *_healing_lines(session),
            *_cost_lines(cost),
            f"picture: {picture}",
        ),
    )


def _arm(known: Sequence[str], arm: str | None) -> str:
    if arm is None:
        return known[0]
    if arm not in known:
        raise unknown_name("arm", arm, known)
    return arm


def _plan_from_scores(
    recipe: str, overrides: Sequence[str], arm: str | None, difficulty: Path
) -> Shown:
    loaded = load_recipe(recipe, overrides, partial=True)
    check_folder_can_be(Path(loaded.recipe.output))
    profile = load_profile(difficulty)
    name = _arm(list(loaded.arms), arm)
    main_name, main = next(iter(loaded.arms.items()))
    plan = compile_recipe(main, profile)
    if name != main_name:
        plan = compile_recipe(loaded.arms[name], profile, plan.total_steps)
    description = describe_plan(plan, profile, loaded.recipe.name)
    stem = f"{loaded.recipe.name}-{name}-{description['fingerprint'][:8]}"
    picture = Path(loaded.recipe.output) / "plans" / f"{stem}.png"
    plan_png(picture, description, plan, profile.measure, profile.scores)
    notes = plan_notes(loaded.arms[name], plan)
    described = {**description, "notes": notes, "picture": str(picture)}
    return Shown(described, (*notes, f"picture: {picture}"))


def profile(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    compare: Sequence[str] = (),
    run_dir: Path | None = None,
    quiet: bool | None = None,
) -> Shown:
    """Measure difficulty, or read what was measured, and sum it up.

    Args:
        recipe: name or path.
        overrides: ``a.b=c``.
        compare: further difficulties, by name, or files of scores, to compare with.
        run_dir: the run folder.
        quiet: show no progress; None shows it on a terminal and in a notebook.

    Raises:
        ConfigError: a difficulty to compare with does not exist or needs options.
        DataError: a file to compare with is none, or is of other examples.
    """
    with prepared(
        recipe, overrides, run_dir=run_dir, quiet=quiet, plans=False, texts=False
    ) as session:
        folder = session.part("difficulty")
        summary = read_json(folder / "summary.json")
        by_first = session.processes.by_first
        comparison = by_first(_compare_with, session, compare) if compare else {}
    unit = summary["unit"]
    quantiles = ", ".join(f"{float(q):.0%} {v:.3f}" for q, v in summary["quantiles"].items())
    lines = [
        f"{summary['num_examples']:,} examples by {summary['measure']}, in {unit}",
        f"mean {summary['mean']:.3f}, standard deviation {summary['std']:.3f},"
        f" from {summary['min']:.3f} to {summary['max']:.3f}",
        f"quantiles: {quantiles}",
    ]
    for label, group in sorted(summary["groups"].items(), key=lambda item: natural(item[0])):
        lines.append(f"group {label}: mean {group['mean']:.3f} over {group['count']:,} examples")
    if "estimate" in summary:
        lines.append(_estimate_line(summary["estimate"]))
    lines += _comparison_lines(comparison)
    files = {"scores": folder / "profile.parquet", "picture": folder / "profile.png"}
    lines += [f"{name}: {path}" for name, path in files.items()]
    described = {**summary, **comparison, **{k: str(v) for k, v in files.items()}}
    return Shown(described, tuple(lines))


def _compare_with(session: Session, others: Sequence[str]) -> dict[str, Any]:
    """Compare the recipe's profile with others, and these with each other.

    Args:
        session: a run whose profile is measured.
        others: names of difficulties, or files of scores.

    Returns:
        ``sizes`` of the subsets that are compared, and ``pairs``.
    """
    recipe = session.recipe
    main = measure_difficulty(session, recipe)
    profiles = {recipe.difficulty.kind: main}
    for name in others:
        label = Path(name).parent.parent.name if Path(name).is_file() else name
        label = label if label not in profiles else f"{label} ({len(profiles) + 1})"
        profiles[label] = _other(session, name)
    options = recipe.curriculum.plain
    grows = options.entry.subset is prefix and options.entry.draw is None
    sizes = options.sizes(main, recipe.training.batch_size).tolist() if grows else []
    # A fifth, two fifths ... where the curriculum has no prefixes to compare.
    sizes = sizes or [len(main) * part // 5 for part in range(1, 6)]
    shown = sorted({sizes[round(k * (len(sizes) - 1) / 4)] for k in range(5)})
    pairs = [pair.as_dict() for pair in compare_profiles(profiles, shown)]
    return {"sizes": shown, "pairs": pairs}


def _other(session: Session, name: str) -> DifficultyProfile:
    if Path(name).is_file():
        return load_profile(name)
    if name not in DIFFICULTIES:
        error = unknown_name("difficulty", name, DIFFICULTIES)
        raise ConfigError(f"{error} A file of scores will do too.")
    try:
        section = DifficultySection(kind=name)
    except ValidationError as error:
        raise ConfigError(
            f"The difficulty '{name}' needs options. Measure it in a recipe of its own (--set"
            f" difficulty...), and compare with its file profile.parquet."
        ) from error
    return measure_difficulty(session, session.recipe.model_copy(update={"difficulty": section}))


def _comparison_lines(comparison: dict[str, Any]) -> list[str]:
    """The comparison for a person."""
    if not comparison:
        return []
    lines = ["rank correlation (Spearman), and overlap of the easiest examples:"]
    for pair in comparison["pairs"]:
        overlaps = ", ".join(
            f"{size:,}: {share:.0%}"
            for size, share in zip(comparison["sizes"], pair["overlaps"], strict=True)
        )
        lines.append(f"  {pair['first']} - {pair['second']}: {pair['spearman']:.3f}; {overlaps}")
    return lines


def _estimate_line(report: dict[str, Any]) -> str:
    low, high = report["interval"]
    return (
        f"estimated: {report['num_sampled']:,} of {report['num_examples']:,} examples were"
        f" measured; out of sample the ranks correlate {report['rank_correlation']:.2f} (95 %"
        f" interval {low:.2f} to {high:.2f}) and are off by {report['rank_error']:.0f} percentiles"
        " on average (33 is chance)"
    )


def _healing_lines(session: Session) -> list[str]:
    """What was done to the student before difficulty was measured, and what that cost."""
    record = session.part(STUDENT_START) / "healed.json"
    student = session.recipe.student
    if student is None or student.finetune is None or not record.is_file():
        return []
    healed = read_json(record)
    spent = duration(session.clock.seconds.get(STAGE, 0.0))
    return [
        f"before that the student was fine-tuned (student.finetune): {healed['steps']:,} updates on"
        f" {healed['examples']:,} examples in {spent}, once for all arms"
    ]


def _cost_lines(cost: Cost) -> tuple[str, ...]:
    lines = [f"tokens: the student reads {cost.tokens:,}, the teacher {cost.teacher_tokens:,}"]
    if cost.written:
        lines.append(
            f"own answers{', at most' * cost.at_most}: the student writes {cost.written:,} and"
            f" learns {cost.learned:,} times"
            f" from one, about {cost.generated_tokens:,} tokens if they are as long as the data's"
            + (f"; kept on at most {size_text(cost.rollout_bytes)}" if cost.rollout_bytes else "")
        )
    if cost.seconds is not None and cost.baseline_seconds is not None:
        lines.append(
            f"training time: about {duration(cost.seconds)} on this machine (estimated from the"
            f" profile's speed; the plain run: {duration(cost.baseline_seconds)})"
        )
    lines.append(
        f"memory: about {size_text(cost.memory_bytes)}; disk: about {size_text(cost.disk_bytes)}"
        " (estimates)"
    )
    if lacking := too_little(cost.memory_bytes, memory_of(device())):
        lines.append(f"memory: {lacking}")
    return tuple(lines)
