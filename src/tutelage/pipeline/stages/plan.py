"""The stage that compiles the plan of an arm, and the plans that follow while it trains."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.curriculum import (
    TEACHER_SCHEDULES,
    LearningRate,
    PlanSettings,
    compile_plan,
    describe_plan,
    load_plan,
    plan_fingerprint,
    replan,
    save_plan,
)
from tutelage.curriculum.options import LENGTHS, LOSS_VALUES
from tutelage.difficulty import load_profile
from tutelage.files import read_json, read_json_or, remove_directory
from tutelage.pipeline.context.inputs import difficulty_part, plan_inputs
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.checks import check_control
from tutelage.pipeline.stages.difficulty import write_profile
from tutelage.recipe import Recipe
from tutelage.report.pictures import plan_png
from tutelage.training.share import AdaptiveShare
from tutelage.types import DifficultyProfile, Plan

AVAILABLE = "available.npy"
"""In the folder of a plan: which teacher wrote an answer for which example, where they did."""


def teacher_names(recipe: Recipe) -> tuple[str, ...]:
    """Names of the teachers as a plan knows them; an ensemble is one of them."""
    names = tuple(recipe.ladder) or ("teacher",)
    mixed = TEACHER_SCHEDULES[recipe.teacher_schedule.kind].mixes
    return (" + ".join(names),) if mixed else names


def plan_settings(recipe: Recipe, total_steps: int | None = None) -> PlanSettings:
    """What the plan of a recipe is compiled from.

    Args:
        recipe: the recipe of an arm.
        total_steps: make exactly as many updates, whatever the recipe's own number (for controls).
    """
    curriculum = recipe.curriculum.plain
    if total_steps is not None:
        curriculum = replace(curriculum, **{**dict.fromkeys(LENGTHS), "total_steps": total_steps})
    training, schedule = recipe.training, recipe.teacher_schedule
    return PlanSettings(
        curriculum,
        batch_size=training.batch_size,
        **{name: getattr(recipe.loss, name) for name in LOSS_VALUES},
        on_policy=recipe.on_policy.fraction,
        learning_rate=LearningRate(
            training.lr_schedule, training.warmup_ratio, training.min_lr_ratio
        ),
        teachers=teacher_names(recipe),
        teacher_schedule={"kind": schedule.kind, **schedule.options},
        supervision=recipe.supervision.kind,
        seed=recipe.student_seed,
    )


def compile_recipe(
    recipe: Recipe,
    profile: DifficultyProfile,
    total_steps: int | None = None,
    available: NDArray[np.bool_] | None = None,
) -> Plan:
    """The plan of a recipe.

    Args:
        recipe: the recipe of an arm.
        profile: difficulty of the training examples.
        total_steps: see :func:`plan_settings`.
        available: which teacher's answers there are; see ``compile_plan``.
    """
    return compile_plan(profile, plan_settings(recipe, total_steps), available=available)


def prepare_plan(
    session: Session,
    arm: str,
    profile: DifficultyProfile,
    available: NDArray[np.bool_] | None = None,
) -> Plan:
    """Compile the plan of an arm; controls make as many updates as the main arm."""
    recipe = session.loaded.arms[arm]
    main_steps = main_arm_steps(session, arm)
    if main_steps is not None:
        check_control(session, arm, main_steps, str(main_steps))
    inputs = plan_inputs(session, arm, main_steps, available)
    name = f"arms/{arm}/plan"
    if not session.ready(name, inputs):
        plan = compile_recipe(recipe, profile, main_steps, available)
        before = session.part(name) / "plan.json"
        old = read_json_or(before, {}).get("fingerprint")
        with session.making(name, inputs, "") as folder:
            if old not in (None, plan_fingerprint(plan)):
                # Plans that were made from the old one are none any more.
                remove_directory(session.part(f"arms/{arm}/replanned"))
            write_plan(session, recipe, folder, plan, profile)
            if available is not None:
                np.save(folder / AVAILABLE, available)
    return load_plan(session.part(name))


def main_arm_steps(session: Session, arm: str) -> int | None:
    """Updates of the main arm, which its controls make too; None for the main arm itself."""
    if arm == session.main_arm:
        return None
    return load_plan(session.part(f"arms/{session.main_arm}/plan")).total_steps


def write_plan(
    session: Session,
    recipe: Recipe,
    folder: Path,
    plan: Plan,
    profile: DifficultyProfile,
    done: int | None = None,
) -> None:
    """A plan with its description and its picture.

    Args:
        session: the run.
        recipe: of the arm.
        folder: an existing folder.
        plan: the plan.
        profile: difficulty for the untrained student, by which all plans of a run are described.
        done: after how many stages the plan was made; None for the one before training.
    """
    summary = read_json(session.part(difficulty_part(session, recipe)) / "summary.json")
    # Losses on the data's answers say nothing of a teacher whose own answers are learned.
    losses = {} if recipe.uses_text else summary.get("losses", {})
    description = describe_plan(
        plan, profile, recipe.name, losses=losses, vocab_size=session.models.vocab_size
    )
    description["notes"] = plan_notes(recipe, plan, done)
    save_plan(folder, plan, description)
    if session.draws:
        plan_png(folder / "plan.png", description, plan, summary["unit"], profile.scores)


def write_next_plan(
    session: Session, arm: str, folder: Path, model: Any, plan: Plan, done: int
) -> None:
    """Measure difficulty with the student as it is now, and plan the stages that are left.

    Args:
        session: the run.
        arm: whose plan it is.
        folder: where the new plan and the new profile go.
        model: the student as it is now.
        plan: the plan so far.
        done: how many of its stages are done.
    """
    recipe = session.loaded.arms[arm]
    (folder / "difficulty").mkdir()
    write_profile(session, recipe, folder / "difficulty", model)
    profile = load_profile(folder / "difficulty" / "profile.parquet")
    settings = plan_settings(recipe, main_arm_steps(session, arm))
    written = session.part(f"arms/{arm}/plan") / AVAILABLE
    available = np.load(written) if written.is_file() else None
    after = replan(plan, done, profile, settings, available=available)
    untrained = load_profile(session.part(difficulty_part(session, recipe)) / "profile.parquet")
    write_plan(session, recipe, folder, after, untrained, done)


def refreshes(recipe: Recipe) -> range:
    """Numbers of the stages after which difficulty is measured again, and the rest planned anew."""
    every, stages = recipe.difficulty.refresh, recipe.curriculum.stages
    if every is None or not recipe.curriculum.plain.asks_difficulty:
        return range(0)
    return range(every, stages, every)


def _share_note(spec: dict[str, Any], plan: Plan) -> str:
    """How far a controller of the student's share will go beyond the schedule."""
    controller = AdaptiveShare(spec, plan)
    most = controller.shares_without_progress(sigmoid=1.0)
    words = f"The student's share is moved while training ({spec['kind']}); shown is its schedule."
    if np.abs(most - plan.student_share).max() < 1e-9:
        return (
            f"{words} In {plan.total_steps} steps the rule moves nothing, whatever the loss does:"
            " the schedule is faster than it. A larger loss.adaptive.alpha lets it move."
        )
    half = plan.total_steps // 2
    drifted = controller.shares_without_progress()[half]
    return (
        f"{words} Without any progress the rule drifts to {drifted:.2f} half way, where the"
        f" schedule has {plan.student_share[half]:.2f}."
    )


def plan_notes(recipe: Recipe, plan: Plan, done: int | None = None) -> list[str]:
    """What a plan cannot know before the run, in words.

    Args:
        recipe: of the arm.
        plan: its plan.
        done: after how many stages the plan was made; None for the one before training.
    """
    notes = []
    every = refreshes(recipe).step
    unit = "stage" if every == 1 else f"{every} stages"
    if done is not None:
        notes.append(
            f"Difficulty was measured again after every {unit}, the"
            f" last time after stage {done}: each stage has the examples that were chosen when it"
            " began. Tenths are those of the untrained student."
        )
    elif refreshes(recipe):
        notes.append(
            f"Difficulty is measured again after every {unit}; the later stages shown here follow"
            " from the untrained student and will change."
        )
    if recipe.loss.adaptive is not None:
        notes.append(_share_note(recipe.loss.adaptive.model_dump(), plan))
    rule = recipe.on_policy.rule
    if rule is not None:
        notes.append(
            f"Which of the {int(plan.on_policy.sum())} steps that may be on the student's own text"
            f" are so, the validation loss decides while training"
            f" ({rule.kind})."
        )
    step = recipe.rounded_step
    if step is not None:
        notes.append(
            f"student.dtype is bfloat16: a step of {step:g} is rounded away on every weight above"
            f" {512 * step:g}. With student.dtype=float32 and training.precision=bfloat16 products"
            " are in 16 bits all the same, and the weights keep every step."
        )
    if recipe.uses_text:
        notes.append(
            "Teachers write the answers; which of them are kept is known only when they are written"
            " (supervision.on_wrong), and a run plans with those."
        )
    return notes
