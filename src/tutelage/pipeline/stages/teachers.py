"""The stage that makes the teachers: taken as they are, or pruned and fine-tuned on the data."""

import shutil
from pathlib import Path
from typing import Any

from tutelage.files import atomic_write_json, remove_directory
from tutelage.models import keep_layers
from tutelage.models.saving import disk_checked
from tutelage.pipeline.context.inputs import teacher_inputs
from tutelage.pipeline.context.models import load_alone, loading
from tutelage.pipeline.context.session import TIME, Session
from tutelage.pipeline.stages.data import rows_of
from tutelage.pipeline.stages.saved import save_checked
from tutelage.pipeline.stages.tuning import fine_tune
from tutelage.proofs import fingerprint
from tutelage.recipe.teaching import FineTune

STAGE = "teacher"


def prepare_teachers(session: Session) -> None:
    """Find the teachers; prune and fine-tune them on the training data where the recipe says so.

    A teacher that was made is kept beside the run folders, so that every run with the same teacher,
    data and settings uses the same one.
    """
    by_first = session.processes.by_first
    for name, teacher in session.recipe.ladder.items():
        if not teacher.is_made:
            find_teacher(session, name)
            continue
        inputs = by_first(teacher_inputs, session, name)
        part = _part(inputs)
        session.models.teacher_places[name] = str(session.cached(part))
        with session.holding(part, title=session.recipe.teacher_title(name)):
            if not by_first(find_teacher, session, name):
                _make(session, name, part, inputs)
            if session.processes.is_first:
                remove_directory(_work(session, part))
        session.processes.wait()


def find_teacher(session: Session, name: str) -> bool:
    """Say where a teacher is, and whether it is there already."""
    if not session.recipe.ladder[name].is_made:
        session.models.teacher_places[name] = session.models.base_teacher(name)
        return True
    inputs = teacher_inputs(session, name)
    part = _part(inputs)
    session.models.teacher_places[name] = str(session.cached(part))
    if not session.cache.fresh(part, inputs):
        return False
    session.took(part, name if name == "teacher" else f"teacher {name}", STAGE)
    return True


def _work(session: Session, part: str) -> Path:
    """Where the checkpoints of a teacher's fine-tuning are, as long as it is not done."""
    return session.cache.part(f"{part}-training")


def _part(inputs: dict[str, Any]) -> str:
    return f"teacher-{fingerprint(inputs)[:16]}"


def _make(session: Session, name: str, part: str, inputs: dict[str, Any]) -> None:
    """Prune, then fine-tune."""
    teacher = session.recipe.ladder[name]
    model = load_alone(
        session.models.base_teacher(name), **{**loading(teacher), "dtype": "float32"}
    )
    if teacher.layers is not None:
        model = keep_layers(model, teacher.layers)
    if teacher.finetune is not None:
        _fine_tune(session, name, teacher.finetune, model, part, inputs)
    elif session.processes.is_first:
        with session.cache.making(part, inputs) as folder, disk_checked(folder):
            tokenizer = session.models.tokenizer_of(name)
            _save(session, name, model, tokenizer, folder)
    session.processes.wait()


def _fine_tune(
    session: Session,
    name: str,
    settings: FineTune,
    model: Any,
    part: str,
    inputs: dict[str, Any],
) -> None:
    if not session.models.is_student_source(name):
        # The tokenized training data are the student's.
        session.models.check_tokens(name)
    rows = rows_of(session, "train")
    work = _work(session, part)
    title = f"Fine-tuning {session.recipe.teacher_title(name)}"
    trained, spent = fine_tune(
        session,
        settings,
        model,
        rows,
        title=title,
        stage=STAGE,
        seed=session.recipe.teacher_seed,
        work=work,
        inputs=inputs,
        cut=session.cuts("teacher"),
    )
    if session.processes.is_first:
        with session.cache.making(part, inputs) as folder, disk_checked(folder):
            _save(session, name, trained.model, session.models.tokenizer, folder)
            shutil.copy(work / "metrics.jsonl", folder / "metrics.jsonl")
            atomic_write_json(folder / TIME, {"seconds": spent})
            session.clock.made(part, STAGE, spent)
    session.processes.wait()


def _save(session: Session, name: str, model: Any, tokenizer: Any, folder: Path) -> None:
    """Save a teacher, and see that it loads as what was made."""
    options = {**loading(session.recipe.ladder[name]), "dtype": "float32"}
    save_checked(
        model,
        tokenizer,
        folder,
        rows_of(session, "train"),
        lambda: load_alone(str(folder), **options),
        f"The saved teacher '{name}'",
    )
