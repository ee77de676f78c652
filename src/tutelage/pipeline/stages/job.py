"""Carrying out a training: from where it was cut off, with its logs, to its end."""

import functools
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from tutelage.files import (
    atomic_directory,
    atomic_write_json,
    plain_json,
    read_json,
    read_jsonl,
    remove_directory,
)
from tutelage.models.saving import disk_checked
from tutelage.pipeline.context.display import Report
from tutelage.pipeline.context.models import device, on_device
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.saved import keep_best
from tutelage.proofs import read_sealed, write_sealed
from tutelage.training import DistillConfig, DistillTrainer
from tutelage.training.callbacks import BestStudent, MetricsFile, ProgressReport, ValidateAndLog
from tutelage.training.checkpoints import (
    checkpoint_step,
    checkpoints,
    cut_logs,
    damage,
    last_checkpoint,
    mark_complete,
)
from tutelage.training.own_answers import OwnAnswers
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
        metric: the validator's metric by which students are compared.
        best: where the student is kept whenever that is better than before; None to keep none.
        until: stop after this step of the plan, with a checkpoint; None for its end.
        tensorboard: folder of TensorBoard's files; None to write none.
        own_answers: how the student answers on on-policy steps.
        log_after: steps after which a record is written, whatever else is logged.
        held_out: rows whose loss decides whose text is learned, where that is decided in training.
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
    log_after: tuple[int, ...] = ()
    held_out: Any = None

    @property
    def validations(self) -> Path:
        """File of the validations."""
        return self.metrics.with_name("validation.jsonl")

    @property
    def logs(self) -> tuple[Path, Path]:
        """What grows with the training; each checkpoint vouches for what it held then."""
        return self.metrics, self.validations


@dataclass(frozen=True)
class Trained:
    """What a training leaves.

    Attributes:
        model: what was trained; None on the processes but the first where it was cut over them.
        steps: how many steps it has made, in earlier processes too.
    """

    model: Any
    steps: int


def carry_out(session: Session, job: Job, rows: Any) -> Trained:
    """Train, from the newest whole checkpoint if there is one, to the end of the plan.

    Optimizer and trainer are gone afterwards; they would stay as long as the model does.
    """
    trained = _train(session, job, rows)
    gc.collect()
    if trained.model is not None:
        on_device(trained.model)
    session.processes.wait()
    return trained


def _train(session: Session, job: Job, rows: Any) -> Trained:
    limit = {} if job.until is None else {"max_steps": job.until}
    arguments = DistillConfig(
        output_dir=str(job.folder),
        disable_tqdm=True,
        save_strategy="steps",
        use_cpu=device().type == "cpu",
        dataloader_pin_memory=device().type != "cpu",
        **{**job.arguments, **limit},
    )
    with session.display.task(job.title) as report:
        trainer = DistillTrainer(
            job.model,
            arguments,
            rows,
            teacher=job.teacher,
            plan=job.plan,
            processing_class=session.models.tokenizer,
            vocab_size=session.models.vocab_size,
            validator=job.validator,
            own_answers=job.own_answers,
            eval_dataset=job.held_out,
            logs=job.logs,
        )
        for callback in _callbacks(job, trainer, report, session.clock.spent, rows):
            trainer.add_callback(callback)
        trainer.hosts = session.processes if session.processes.are_apart else None
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        checkpoint = session.processes.by_first(_newest_checkpoint, session, job)
        session.processes.bring_work(job.folder)
        if checkpoint is not None:
            done, steps = checkpoint_step(checkpoint), trainer.plan.total_steps
            session.display.note(f"{job.title}: continuing at step {done:,} of {steps:,}")
        if job.tensorboard is not None and session.processes.is_first:
            done = 0 if checkpoint is None else checkpoint_step(checkpoint)
            trainer.add_callback(_tensorboard(job.tensorboard, done))
        trainer.train(resume_from_checkpoint=checkpoint)
    return Trained(trainer.in_one_piece(), trainer.state.global_step)


def _tensorboard(folder: Path, done: int) -> TensorBoardCallback:
    """TensorBoard's files, beside the checkpoints and not among them; lost steps are forgotten."""
    from torch.utils.tensorboard import SummaryWriter

    return TensorBoardCallback(SummaryWriter(str(folder), purge_step=done + 1))


def start_over_unless_same(
    session: Session,
    work: Path,
    inputs: Mapping[str, Any],
    stage: str,
    beside: Sequence[str] = (),
    *,
    forget: bool = False,
) -> float:
    """Checkpoints are continued only when they were made from the same inputs.

    Args:
        session: the run.
        work: the folder of the checkpoints; its record of the inputs is written before them.
        inputs: what they are to be made from.
        stage: whom the time is charged to.
        beside: names of files and folders beside it that go with the checkpoints.
        forget: the time of the stage begins at nothing when the training begins anew.

    Returns:
        Seconds of the stage when this training began, in whichever process that was.
    """

    def start() -> float:
        record = work / "inputs.json"
        found = read_sealed(record)
        if found is None and checkpoints(work):
            session.run.tell(
                f"'{record}' is missing or damaged: nobody knows what the checkpoints beside it"
                " were made from, so this training begins anew"
            )
        if found is None or found["inputs"] != plain_json(inputs):
            remove_directory(work)
            for name in beside:
                remove_directory(work.parent / name)
            if forget:
                session.clock.forget(stage)
            found = {"inputs": plain_json(inputs), "began": session.clock.seconds.get(stage, 0.0)}
            write_sealed(record, found)
        return found.get("began", 0.0)

    return session.processes.by_first(start)


def _newest_checkpoint(session: Session, job: Job) -> Path | None:
    """Where a job goes on: the newest checkpoint that is as it was written, with logs and best."""
    found = last_checkpoint(
        job.folder,
        last_step=job.until,
        wrong=functools.partial(_wrong_with, job),
        tell=session.run.tell,
    )
    # Newer ones are damaged, unfinished, or followed a plan that has to be made anew.
    for path in checkpoints(job.folder):
        if found is None or checkpoint_step(path) > checkpoint_step(found):
            remove_directory(path)
    cut_logs(found, job.logs)
    return found


def _wrong_with(job: Job, checkpoint: Path) -> str | None:
    """What keeps a job from going on from a checkpoint, or None."""
    reason = damage(checkpoint, job.logs)
    if reason is not None or job.best is None:
        return reason
    done = checkpoint_step(checkpoint)
    rows = [row for row in read_jsonl(job.validations) if row.get("step", done + 1) <= done]
    if not rows:
        return None
    values = [row[str(job.metric)] for row in rows]
    best = rows[values.index(max(values))]["step"]
    broken = damage(job.best)
    if broken is not None:
        return f"of the best student so far, {broken}"
    kept = read_json(job.best / "selected.json")["step"]
    # A better one from after the checkpoint comes again.
    return None if kept == best or kept > done else f"the best student of step {best} is not there"


def _callbacks(
    job: Job, trainer: DistillTrainer, report: Report, spent: Callable[[], float], rows: Any
) -> Iterator[Any]:
    yield MetricsFile(job.metrics, spent)
    yield ValidateAndLog(job.validate_after, job.log_after)
    yield ProgressReport(report)
    if job.validator is not None:
        keep = None if job.best is None else functools.partial(_keep, job, job.best, trainer, rows)
        yield BestStudent(job.validations, job.metric, keep)


def _keep(
    job: Job, place: Path, trainer: DistillTrainer, rows: Any, step: int, value: float
) -> None:
    """Keep the student as it is now as the best one so far."""
    with atomic_directory(place) as folder, disk_checked(folder):
        keep_best(trainer, folder, rows)
        atomic_write_json(folder / "selected.json", {"step": step, job.metric: value})
        mark_complete(folder)
