"""Stages that train: the plan of an arm, the arm itself, and a teacher's fine-tuning."""

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import set_seed
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from tutelage.curriculum import load_plan, plan_fingerprint
from tutelage.files import atomic_directory, atomic_write_json, read_json
from tutelage.generation import GenerationSettings
from tutelage.pipeline.inputs import training_inputs
from tutelage.pipeline.plans import refreshes
from tutelage.pipeline.progress import Report
from tutelage.pipeline.session import Session, training_stage
from tutelage.pipeline.students import keep_best, save_students, with_lora
from tutelage.pipeline.workshop import device
from tutelage.recipe import Recipe
from tutelage.training import DistillConfig, DistillTrainer
from tutelage.training.callbacks import BestStudent, MetricsFile, ProgressReport, Rhythm
from tutelage.training.checkpoints import checkpoint_step, last_checkpoint
from tutelage.training.on_policy import OwnAnswers
from tutelage.training.saving import disk_checked
from tutelage.types import Plan


@dataclass(frozen=True)
class Job:
    """A training to carry out.

    Attributes:
        title: for the progress display.
        folder: where checkpoints and logs go.
        model: what is trained.
        plan: what to do at which step; None for a plain run as ``arguments`` say.
        teacher: the teacher, or None.
        arguments: further arguments of ``DistillConfig``.
        metrics: file of the training records.
        validator: named metrics of a model, or None.
        validate_after: steps after which to validate.
        best: called with the trainer when validation is better than before; with its metric's name.
        until: stop after this step of the plan, with a checkpoint; None for its end.
        tensorboard: folder of TensorBoard's files; None to write none.
        own_answers: how the student answers on on-policy steps.
    """

    title: str
    folder: Path
    model: Any
    plan: Plan | None
    teacher: Any
    arguments: dict[str, Any]
    metrics: Path
    validator: Callable[[Any], dict[str, float]] | None = None
    validate_after: tuple[int, ...] = ()
    metric: str | None = None
    best: Path | None = None
    until: int | None = None
    tensorboard: Path | None = None
    own_answers: OwnAnswers | None = None


def carry_out(session: Session, job: Job, rows: Any) -> DistillTrainer:
    """Train, from the newest whole checkpoint if there is one, to the end of the plan."""
    limit = {} if job.until is None else {"max_steps": job.until}
    arguments = DistillConfig(
        output_dir=str(job.folder), disable_tqdm=True, **{**job.arguments, **limit}
    )
    with session.display.task(job.title) as report:
        trainer = DistillTrainer(
            job.model,
            arguments,
            rows,
            teacher=job.teacher,
            plan=job.plan,
            processing_class=session.shop.tokenizer,
            vocab_size=session.shop.vocab_size,
            validator=job.validator,
            own_answers=job.own_answers,
        )
        for callback in _callbacks(job, trainer, report, session.clock.spent, rows):
            trainer.add_callback(callback)
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        checkpoint = last_checkpoint(job.folder)
        if job.tensorboard is not None and session.processes.is_first:
            done = 0 if checkpoint is None else checkpoint_step(checkpoint)
            trainer.add_callback(_tensorboard(job.tensorboard, done))
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    session.processes.wait()
    return trainer


def _callbacks(
    job: Job, trainer: DistillTrainer, report: Report, spent: Callable[[], float], rows: Any
) -> Iterator[Any]:
    def keep(step: int, value: float) -> None:
        assert job.best is not None
        with atomic_directory(job.best) as folder, disk_checked(folder):
            keep_best(trainer, folder, rows)
            atomic_write_json(folder / "selected.json", {"step": step, job.metric: value})

    yield MetricsFile(job.metrics, spent)
    yield Rhythm(job.validate_after)
    yield ProgressReport(report)
    if job.validator is not None:
        path = job.metrics.with_name("validation.jsonl")
        yield BestStudent(path, job.metric, keep if job.best is not None else None)


def _tensorboard(folder: Path, done: int) -> TensorBoardCallback:
    """TensorBoard's files, beside the checkpoints and not among them; lost steps are forgotten."""
    from torch.utils.tensorboard import SummaryWriter

    return TensorBoardCallback(SummaryWriter(str(folder), purge_step=done + 1))


def train_arm(
    session: Session,
    arm: str,
    rows: Any,
    validator: Callable[[Any], dict[str, float]] | None,
    write_next_plan: Callable[[Path, Any, Plan, int], None] | None = None,
    teachers: Callable[[], Any] | None = None,
) -> None:
    """Train the student of an arm as its plan says, and save it.

    Args:
        session: the run.
        arm: its name.
        rows: tokenized training data.
        validator: named metrics of a model on the validation data, or None.
        write_next_plan: writes the plan that follows a stage into a folder, from the student as it
            is then, the plan so far and the number of stages done; needed where the recipe measures
            difficulty again.
        teachers: gives the teachers' signals by name; needed where a plan has something from them.
    """
    recipe = session.loaded.arms[arm]
    plan = load_plan(session.part(f"arms/{arm}/plan"))
    inputs = training_inputs(session, arm, validation_steps(session))
    student = f"arms/{arm}/student"
    if session.run.fresh(student, inputs):
        return
    work = session.part(f"arms/{arm}/training")
    _start_over_unless_same(session, work, inputs)
    make_job = functools.partial(_job, session, arm, validator, teachers)
    with session.timed(training_stage(arm)):
        for done in refreshes(recipe):
            until = int((plan.step_stage <= done).sum())
            if until >= (recipe.training.max_steps or plan.total_steps):
                break
            name = f"arms/{arm}/replanned/after_stage_{done}"
            made_from = {"student": inputs, "plan": plan_fingerprint(plan)}
            if not session.run.fresh(name, made_from):
                assert write_next_plan is not None
                trainer = carry_out(session, make_job(plan, until), rows)
                if session.processes.is_first:
                    with session.run.making(name, made_from) as folder:
                        write_next_plan(folder, trainer.model, plan, done)
                session.processes.wait()
            plan = load_plan(session.part(name))
        job = make_job(plan)
        trainer = carry_out(session, job, rows)
    if session.processes.is_first:
        session.set_aside(student)
        save_students(session, arm, inputs, trainer, job.best, rows)
        stage = training_stage(arm)
        session.keep(student, inputs, stage, session.clock.seconds[stage])
        shutil.rmtree(work)
    session.processes.wait()


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
    set_seed(recipe.seed)
    selecting = recipe.selection.metric is not None and validator is not None
    return Job(
        title=f"Training {arm}",
        folder=work,
        model=with_lora(session.shop.student(), recipe),
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
        own_answers=_own_answers(session, recipe),
    )


def _own_answers(session: Session, recipe: Recipe) -> OwnAnswers | None:
    settings = recipe.on_policy
    if not settings.is_used:
        return None
    return OwnAnswers(
        session.shop.tokenizer,
        GenerationSettings(
            max_new_tokens=settings.max_new_tokens,
            max_total_tokens=getattr(recipe.data, "max_length", None),
            sampling_temperature=settings.sampling_temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            precision=recipe.training.precision,
        ),
        recipe.seed,
    )


def _start_over_unless_same(session: Session, work: Path, inputs: dict[str, Any]) -> None:
    """Checkpoints are continued only when they were made from the same inputs."""
    if session.processes.is_first:
        record = work / "inputs.json"
        if not record.exists() or read_json(record) != inputs:
            shutil.rmtree(work, ignore_errors=True)
            for name in ("metrics.jsonl", "validation.jsonl"):
                (work.parent / name).unlink(missing_ok=True)
            shutil.rmtree(work.parent / "tracking", ignore_errors=True)
            session.clock.forget(training_stage(work.parent.name))
            atomic_write_json(record, inputs)
    session.processes.wait()


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
    training, loss = recipe.training, recipe.loss
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
        "use_cpu": device().type == "cpu",
        **_checkpointing(training.gradient_checkpointing),
        "logging_steps": training.log_every,
        "save_strategy": "steps",
        "save_steps": training.checkpoint_every,
        "keep_checkpoints": training.keep_checkpoints,
        "report_to": [name for name in training.report_to if name != "tensorboard"],
        "project": session.recipe.name,
        "run_name": arm,
        "seed": recipe.seed,
        "max_steps": training.max_steps or -1,
        "divergence": loss.divergence.kind,
        "divergence_options": dict(loss.divergence.options),
        "target": loss.target.kind,
        "target_options": dict(loss.target.options),
        "share_controller": None if loss.adaptive is None else loss.adaptive.model_dump(),
        "top_k": loss.top_k,
        "tau2_scaling": loss.tau2_scaling,
        "tile_tokens": training.tile_tokens,
        "padding_free": training.padding_free,
        "micro_batch_tokens": training.micro_batch_tokens,
        "dataloader_pin_memory": device().type != "cpu",
    }


def _checkpointing(wanted: bool) -> dict[str, bool]:
    """The switch under the name that this version of transformers gives it."""
    names = {field.name for field in dataclasses.fields(DistillConfig)}
    new = "activation_checkpointing"
    return {new if new in names else "gradient_checkpointing": True} if wanted else {}
