"""The stage that makes the teacher: taken as it is, or fine-tuned on the training data."""

import shutil
from typing import Any

import numpy as np
from transformers import set_seed

from tutelage.curriculum import CurriculumOptions, LearningRate, compile_plan
from tutelage.files import fingerprint
from tutelage.models import load_model
from tutelage.pipeline.identity import model_identity
from tutelage.pipeline.prepare import rows_of
from tutelage.pipeline.session import Session, plain
from tutelage.pipeline.training import Job, carry_out, save_student
from tutelage.pipeline.workshop import device
from tutelage.training.saving import disk_checked
from tutelage.types import DifficultyProfile, Plan


def prepare_teacher(session: Session) -> None:
    """Find the teacher; fine-tune it on the training data when the recipe says so.

    A fine-tuned teacher is kept beside the run folders, so that every run with the same teacher,
    data and settings uses the same one.
    """
    teacher = session.recipe.teacher
    if teacher is None:
        return
    base = session.shop.base_teacher
    assert base is not None
    session.shop.teacher_place = base
    if teacher.finetune is None:
        return
    inputs = {
        "base": model_identity(base, teacher.revision),
        "finetune": plain(teacher.finetune),
        "data": session.run.fingerprint("data"),
        "seed": session.recipe.seed,
    }
    name = f"teacher-{fingerprint(inputs)[:16]}"
    if not session.cache.fresh(name, inputs):
        _fine_tune(session, base, name, inputs)
    session.shop.teacher_place = str(session.cache.part(name))


def _fine_tune(session: Session, base: str, name: str, inputs: dict[str, Any]) -> None:
    teacher = session.recipe.teacher
    assert teacher is not None and teacher.finetune is not None
    settings = teacher.finetune
    rows = rows_of(session, "train")
    work = session.cache.part(f"{name}-training")
    set_seed(session.recipe.seed)
    model = load_model(base, revision=teacher.revision, trust_remote_code=teacher.trust_remote_code)
    micro = min(settings.micro_batch_size, settings.batch_size)
    job = Job(
        title="Fine-tuning the teacher",
        folder=work,
        model=model,
        plan=_plan(session, rows["id"]),
        teacher=None,
        arguments={
            "learning_rate": settings.learning_rate,
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": -(
                -settings.batch_size // (micro * session.processes.count)
            ),
            "weight_decay": settings.weight_decay,
            "max_grad_norm": settings.max_grad_norm,
            "bf16": settings.precision == "bfloat16",
            "use_cpu": device().type == "cpu",
            "save_strategy": "steps",
            "save_steps": settings.checkpoint_every,
            "logging_steps": 1,
            "report_to": [],
            "seed": session.recipe.seed,
            "dataloader_pin_memory": device().type != "cpu",
        },
        metrics=work / "metrics.jsonl",
    )
    with session.timed("teacher"):
        trainer = carry_out(session, job, rows)
    if session.processes.is_first:
        with session.cache.making(name, inputs) as folder, disk_checked(folder):
            save_student(trainer.model, session.shop.tokenizer, folder)
            shutil.copy(work / "metrics.jsonl", folder / "metrics.jsonl")
        shutil.rmtree(work)
    session.processes.wait()


def _plan(session: Session, ids: list[str]) -> Plan:
    """An ordinary fine-tuning: everything, shuffled, cross-entropy alone."""
    settings = session.recipe.teacher.finetune  # type: ignore[union-attr]
    assert settings is not None
    return compile_plan(
        DifficultyProfile(tuple(ids), np.zeros(len(ids)), "none"),
        CurriculumOptions("random", stages=1, passes=settings.epochs, epochs=settings.epochs),
        batch_size=settings.batch_size,
        ce_weight=1.0,
        learning_rate=LearningRate(settings.lr_schedule, settings.warmup_ratio),
        seed=session.recipe.seed,
    )
