"""Ordinary training of one model before the arms: a teacher's fine-tuning, a student's healing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import set_seed

from tutelage.curriculum import CurriculumOptions, LearningRate, PlanSettings, compile_plan
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.job import Job, Trained, carry_out, start_over_unless_same
from tutelage.recipe.teaching import FineTune
from tutelage.types import DifficultyProfile, Plan


def fine_tune(
    session: Session,
    settings: FineTune,
    model: Any,
    rows: Any,
    *,
    title: str,
    stage: str,
    seed: int,
    work: Path,
    inputs: Mapping[str, Any],
    teacher: Any = None,
    cut: bool = False,
) -> tuple[Trained, float]:
    """Train a model on rows, from the newest checkpoint in ``work``; all processes together.

    Args:
        session: the run.
        settings: how.
        model: what is trained.
        rows: tokenized data.
        title: for the progress display.
        stage: whom the time is charged to.
        seed: of the order and of dropout.
        work: where checkpoints and ``metrics.jsonl`` go; whoever calls removes it.
        inputs: what the model is made from; checkpoints of other inputs are not continued.
        teacher: signals by name; with one the model learns its distributions, else the answers.
        cut: cut the model over the processes while it is trained.

    Returns:
        What the training left, and the seconds that this took over all processes.
    """
    began = start_over_unless_same(session, work, inputs, stage)
    set_seed(seed)
    micro = min(settings.micro_batch_size, settings.batch_size)
    job = Job(
        title=title,
        folder=work,
        model=model,
        plan=_plan(settings, rows["id"], seed, teacher),
        teacher=teacher,
        arguments={
            "learning_rate": settings.learning_rate,
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": -(
                -settings.batch_size // (micro * session.processes.count)
            ),
            "weight_decay": settings.weight_decay,
            "max_grad_norm": settings.max_grad_norm,
            "bf16": settings.precision == "bfloat16",
            "save_steps": settings.checkpoint_every,
            "logging_steps": 1,
            "report_to": [],
            "seed": seed,
            "shard": "student" if cut else "none",
        },
        metrics=work / "metrics.jsonl",
    )
    with session.timed(stage):
        trained = carry_out(session, job, rows)
    return trained, session.clock.seconds[stage] - began


def _plan(settings: FineTune, ids: list[str], seed: int, teacher: Any) -> Plan:
    """Everything, shuffled; cross-entropy alone, or forward KL to a teacher alone."""
    return compile_plan(
        DifficultyProfile.level(ids),
        PlanSettings(
            CurriculumOptions("random", stages=1, passes=settings.epochs, epochs=settings.epochs),
            batch_size=settings.batch_size,
            ce_weight=1.0 if teacher is None else 0.0,
            learning_rate=LearningRate(settings.lr_schedule, settings.warmup_ratio),
            teachers=("teacher",) if teacher is None else tuple(teacher),
            seed=seed,
        ),
    )
