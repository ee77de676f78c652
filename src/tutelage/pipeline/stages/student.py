"""The stage that makes the student that all arms start from: taken, cut, or healed after cutting.

A student that lost layers may be worse than a uniform guess until it is trained again, and what
it finds hard means little then. ``student.finetune`` heals it first: once for all arms, which share
it and its cost, and before difficulty is measured.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tutelage.checks.data import column_names
from tutelage.data.load import load_examples
from tutelage.data.sources import Source
from tutelage.files import atomic_write_json, remove_directory
from tutelage.models import keep_layers
from tutelage.models.saving import disk_checked
from tutelage.pipeline.context.inputs import STUDENT_START as PART
from tutelage.pipeline.context.inputs import start_inputs
from tutelage.pipeline.context.models import autocast_dtype, load_alone
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.data import rows_of, tokenize
from tutelage.pipeline.stages.saved import save_checked
from tutelage.pipeline.stages.tuning import fine_tune
from tutelage.recipe.teaching import Heal
from tutelage.teachers import TeacherLadder, live_teacher

STAGE = "student"


def find_student(session: Session) -> bool:
    """Whether the student that all arms start from is there already."""
    made = session.recipe.student_section.is_made
    return not made or session.ready(PART, start_inputs(session))


def prepare_student(session: Session) -> None:
    """Build the student when it is cut from another model or healed; all processes together."""
    if session.recipe.student_section.is_made:
        inputs = session.processes.by_first(start_inputs, session)
        with session.missing(PART, inputs, together=True) as missing:
            if missing:
                _make(session, inputs)
    if session.processes.is_first:
        remove_directory(_work(session))
    session.processes.wait()


def _make(session: Session, inputs: dict[str, Any]) -> None:
    student = session.recipe.student_section
    if student.finetune is not None:
        _heal(session, student.finetune, inputs)
    elif session.processes.is_first:
        with (
            session.display.task(f"Keeping {student.layers} layers for the student"),
            session.making(PART, inputs, STAGE) as folder,
            disk_checked(folder),
        ):
            _save(session, _cut(session, student.dtype), folder)
    session.processes.wait()


def _cut(session: Session, dtype: str) -> Any:
    student, models = session.recipe.student_section, session.models
    model = load_alone(models.cut_from, **{**models.student_loading, "dtype": dtype})
    return model if student.layers is None else keep_layers(model, student.layers)


def _save(session: Session, model: Any, folder: Any) -> None:
    save_checked(
        model,
        session.models.tokenizer,
        folder,
        rows_of(session, "train"),
        lambda: load_alone(str(folder), **session.models.student_loading),
        "The saved student before training",
    )


def _heal(session: Session, settings: Heal, inputs: dict[str, Any]) -> None:
    """Train the student on answers, or on the teacher's distributions, before anything else."""
    models = session.models
    rows = healing_rows(session, settings.sources)
    work = _work(session)
    teacher = None
    if settings.objective == "kl":
        autocast = autocast_dtype(settings.precision)
        models.check_tokens(models.strongest)
        teacher = TeacherLadder(
            {models.strongest: lambda: live_teacher(models.teacher, models.vocab_size, autocast)}
        )
    trained, spent = fine_tune(
        session,
        settings,
        _cut(session, "float32"),
        rows,
        title="Healing the student",
        stage=STAGE,
        seed=session.recipe.student_seed,
        work=work,
        inputs=inputs,
        teacher=teacher,
        cut=session.cuts("student"),
    )
    models.release_teacher()
    if not session.processes.is_first:
        return
    session.set_aside(PART)
    paid = {"stage": STAGE, "seconds": round(spent, 3)}
    with session.run.making(PART, inputs, lambda: paid) as folder, disk_checked(folder):
        dtype = getattr(torch, session.recipe.student_section.dtype)
        _save(session, trained.model.to(dtype), folder)
        shutil.copy(work / "metrics.jsonl", folder / "metrics.jsonl")
        atomic_write_json(folder / "healed.json", {"steps": trained.steps, "examples": len(rows)})
    session.keep(PART, inputs)


def _work(session: Session) -> Path:
    """Where the checkpoints of a student's healing are, as long as it is not done."""
    return session.part(f"{PART}-training")


def healing_rows(session: Session, sources: Sequence[Source]) -> Any:
    """What a student is healed on.

    Args:
        session: the run.
        sources: files of its own; none for the training data.
    """
    if not sources:
        return rows_of(session, "train")
    with session.display.task("Reading the data that the student is healed on") as report:
        names = column_names(session.recipe.data)
        seed = session.recipe.data_seed
        examples = load_examples(sources, split="train", names=names, seed=seed)
        return tokenize(session, examples, progress=report).dataset
