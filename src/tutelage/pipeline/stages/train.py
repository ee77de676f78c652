"""The stage that trains an arm as its plan says, and plans anew where the recipe measures again."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed

from tutelage.curriculum import load_plan, plan_fingerprint
from tutelage.files import remove_directory
from tutelage.generation import GenerationSettings
from tutelage.pipeline.context.inputs import training_inputs
from tutelage.pipeline.context.session import Session, training_stage
from tutelage.pipeline.stages.job import Job, carry_out, start_over_unless_same
from tutelage.pipeline.stages.plan import refreshes
from tutelage.pipeline.stages.rollouts import held_out_rows, most_rollouts
from tutelage.pipeline.stages.saved import save_students, with_lora
from tutelage.recipe import Recipe
from tutelage.schedules import scheduled
from tutelage.training import DistillConfig, DistillSettings
from tutelage.training.alarms import Alarms
from tutelage.training.own_answers import OwnAnswers
from tutelage.types import Plan

NextPlan = Callable[[Path, Any, Plan, int], None]


def train_arm(
    session: Session,
    arm: str,
    rows: Any,
    validator: Callable[[Any], dict[str, float]] | None,
    write_next_plan: NextPlan,
    teachers: Callable[[], Any] | None = None,
    until: int | None = None,
) -> None:
    """Train the student of an arm as its plan says, and save it.

    Args:
        session: the run.
        arm: its name.
        rows: tokenized training data.
        validator: named metrics of a model on the validation data, or None.
        write_next_plan: writes the plan that follows a stage into a folder, from the student as it
            is then, the plan so far and the number of stages done.
        teachers: gives the teachers' signals by name; needed where a plan has something from them.
        until: stop after this step of the plan, with a checkpoint and nothing saved; a later call
            goes on from there.
    """
    by_first = session.processes.by_first
    inputs = by_first(lambda: training_inputs(session, arm, validation_steps(session)))
    student = f"arms/{arm}/student"
    work = session.part(f"arms/{arm}/training")
    make_job = functools.partial(_job, session, arm, validator, teachers)
    with session.missing(student, inputs, together=True) as missing:
        if missing:
            stage = training_stage(arm)
            beside = ("metrics.jsonl", "validation.jsonl", "tracking")
            start_over_unless_same(session, work, inputs, stage, beside, forget=True)
            with session.timed(stage):
                plan = _replanned(session, arm, inputs, rows, make_job, write_next_plan, until)
                job = make_job(plan, until)
                trained = carry_out(session, job, rows)
            if until is not None:
                return
            by_first(_keep, session, arm, inputs, trained, job.best, rows)
    if session.processes.is_first:
        remove_directory(work)
    session.processes.wait()


def _keep(
    session: Session, arm: str, inputs: dict[str, Any], trained: Any, best: Path | None, rows: Any
) -> None:
    student = f"arms/{arm}/student"
    session.set_aside(student)
    save_students(session, arm, inputs, trained, best, rows)
    session.keep(student, inputs)


def _replanned(
    session: Session,
    arm: str,
    inputs: dict[str, Any],
    rows: Any,
    make_job: Callable[..., Job],
    write_next_plan: NextPlan,
    stop: int | None = None,
) -> Plan:
    """The plan of an arm to its end; where it is made anew on the way, with the training so far.

    With a step to ``stop`` after, it need not be right beyond that.
    """
    recipe = session.loaded.arms[arm]
    plan = load_plan(session.part(f"arms/{arm}/plan"))
    for done in refreshes(recipe):
        until = _steps_of(plan, done)
        if until >= min(stop or plan.total_steps, recipe.training.max_steps or plan.total_steps):
            break
        name = f"arms/{arm}/replanned/after_stage_{done}"
        made_from = {"student": inputs, "plan": plan_fingerprint(plan)}
        if not session.processes.by_first(session.run.fresh, name, made_from):
            trained = carry_out(session, make_job(plan, until), rows)
            if session.processes.is_first:
                with session.run.making(name, made_from) as folder:
                    write_next_plan(folder, trained.model, plan, done)
            del trained  # the next one starts from its checkpoint, in a model of its own
            session.processes.wait()
        plan = load_plan(session.part(name))
    return plan


def _steps_of(plan: Plan, stages: int) -> int:
    """How many steps the first stages of a plan have."""
    return int((plan.step_stage <= stages).sum())


def _job(
    session: Session,
    arm: str,
    validator: Callable[[Any], dict[str, float]] | None,
    teachers: Callable[[], Any] | None,
    plan: Plan,
    until: int | None = None,
) -> Job:
    """What is to be trained, from a new copy of the student."""
    recipe = session.loaded.arms[arm]
    work = session.part(f"arms/{arm}/training")
    set_seed(recipe.student_seed)
    selecting = recipe.selection.metric is not None and validator is not None
    return Job(
        title=_title(arm),
        folder=work,
        model=with_lora(session.models.student(), recipe),
        plan=plan,
        teacher=teachers() if teachers is not None and plan.has_teacher_signal() else None,
        arguments=training_arguments(session, recipe, arm),
        metrics=session.part(f"arms/{arm}/metrics.jsonl"),
        validator=validator if selecting else None,
        validate_after=tuple(validation_steps(session)) if selecting else (),
        metric=recipe.selection.metric,
        best=work / "best" if selecting and recipe.selection.keep == "best" else None,
        until=until,
        tensorboard=work.parent / "tracking"
        if "tensorboard" in recipe.training.report_to
        else None,
        own_answers=_own_answers(session, arm, plan),
        log_after=tuple(_steps_of(plan, stages) for stages in refreshes(recipe)),
        held_out=held_out_rows(session, recipe),
    )


def _title(arm: str) -> str:
    return f"Training {arm}"


def _own_answers(session: Session, arm: str, plan: Plan) -> OwnAnswers | None:
    recipe = session.loaded.arms[arm]
    own = recipe.on_policy
    if not own.is_used:
        return None
    stages = recipe.curriculum.stages
    return OwnAnswers(
        session.models.tokenizer,
        own.values_of(
            GenerationSettings,
            max_total_tokens=getattr(recipe.data, "max_length", None),
            precision=recipe.training.precision,
        ),
        recipe.student_seed,
        horizon=None
        if own.horizon is None
        else scheduled(own.horizon).values(plan.step_stage, stages).tolist(),
        prefix=scheduled(own.prefix).values(plan.step_stage, stages).tolist()
        if own.prefix
        else None,
        reuse=own.reuse,
        max_age=own.max_age,
        most_kept=most_rollouts(session, recipe),
        # The plan that follows may ask for what this one does not.
        forgets=recipe.difficulty.refresh is None,
        teacher_top_k=own.teacher_top_k,
        importance=own.importance,
        adaptive=None if own.rule is None else own.rule.model_dump(),
        alarms=own.alarms.values_of(Alarms),
        tell=lambda words: session.run.tell(f"{_title(arm)}: {words}"),
    )


def validation_steps(session: Session) -> list[int]:
    """After each stage of the main arm, or every so many steps; always after the last one.

    What was planned for the main arm before training decides for all arms, whatever stages they
    have or plan anew: students are then selected among equally many, at equal costs.
    """
    plan = load_plan(session.part(f"arms/{session.main_arm}/plan"))
    recipe = session.recipe
    last = min(plan.total_steps, recipe.training.max_steps or plan.total_steps)
    every = recipe.selection.every
    if isinstance(every, int):
        steps = range(every, last, every)
    else:
        steps = np.cumsum([stage.steps for stage in plan.stages]).tolist()
    return [*(step for step in steps if step < last), last]


def training_arguments(session: Session, recipe: Recipe, arm: str) -> dict[str, Any]:
    """A recipe's settings as arguments of ``DistillConfig``."""
    training, loss, second = recipe.training, recipe.loss, recipe.loss.second_divergence
    settings = training.values_of(
        DistillSettings,
        divergence=loss.divergence.kind,
        target=loss.target.kind,
        second_divergence=second and second.kind,
        tokens=loss.tokens and loss.tokens.kind,
        ce_trust=loss.ce_trust,
        state_weight=loss.state_weight,
        state_floor=loss.state_floor,
        top_k=loss.top_k,
        sampled=loss.sampled,
        tau2_scaling=loss.tau2_scaling,
    )
    processes = session.processes.count
    return {
        "learning_rate": training.learning_rate,
        "per_device_train_batch_size": training.micro_batch_size,
        "gradient_accumulation_steps": training.accumulation(processes),
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "adam_beta1": training.adam_beta1,
        "adam_beta2": training.adam_beta2,
        "bf16": training.precision == "bfloat16",
        **_checkpointing(training.gradient_checkpointing),
        "logging_steps": training.log_every,
        "save_steps": training.checkpoint_every,
        "report_to": [name for name in training.report_to if name != "tensorboard"],
        "project": session.recipe.name,
        "run_name": arm,
        "seed": recipe.student_seed,
        "max_steps": training.max_steps or -1,
        "divergence_options": dict(loss.divergence.options),
        "second_divergence_options": {} if second is None else dict(second.options),
        "token_options": {} if loss.tokens is None else dict(loss.tokens.options),
        "target_options": dict(loss.target.options),
        "average": None if training.average is None else training.average.model_dump(),
        "share_controller": None if loss.adaptive is None else loss.adaptive.model_dump(),
        **vars(settings),
    }


def _checkpointing(wanted: bool) -> dict[str, bool]:
    """The switch under the name that this version of transformers gives it."""
    names = {field.name for field in dataclasses.fields(DistillConfig)}
    new = "activation_checkpointing"
    return {new if new in names else "gradient_checkpointing": True} if wanted else {}
