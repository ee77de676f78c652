"""What a run says of itself: run.json, versions, model card; and whether the disk will do."""

import shutil
import time
from pathlib import Path
from typing import Any

from tutelage.curriculum import load_plan, plan_folder
from tutelage.errors import RunFolderError
from tutelage.files import atomic_write_json, read_json, read_json_or
from tutelage.models import ModelSize
from tutelage.pipeline.caching import decide_signals, store_needs
from tutelage.pipeline.cards import write_cards
from tutelage.pipeline.estimate import Cost, Scale, estimate, size_text
from tutelage.pipeline.identity import versions
from tutelage.pipeline.prepare import rows_of
from tutelage.pipeline.session import Session
from tutelage.pipeline.stores import LIVE
from tutelage.recipe import Recipe
from tutelage.report import load_run, write_report


def cost_of(session: Session, arm: str) -> Cost:
    """An estimate of what training an arm will take."""
    recipe = session.loaded.arms[arm]
    rows = rows_of(session, "train")
    tokens_of = {i: len(t) for i, t in zip(rows["id"], rows["input_ids"], strict=True)}
    student, teacher = session.shop.student_size, session.shop.teacher_size
    speed = read_json(session.part("difficulty/summary.json")).get("tokens_per_second")
    training = recipe.training
    signal = decide_signals(session).get(arm, LIVE)
    needs = store_needs(session, arm, signal) if signal != LIVE else []
    head_bytes = 0 if teacher is None else 4 * teacher.hidden_size * session.shop.vocab_size
    scale = Scale(
        parameters=student.parameters,
        trainable=_trainable(student, recipe),
        teacher_parameters=0 if teacher is None else teacher.parameters,
        teacher_bytes=0 if teacher is None else teacher.bytes if signal == LIVE else head_bytes,
        layers=student.layers,
        hidden=student.hidden_size,
        vocab=session.shop.vocab_size,
        micro_batch=training.micro_batch_size,
        max_tokens=max(tokens_of.values()),
        tile_tokens=training.tile_tokens,
        forward_tokens_per_second=speed,
        checkpoints=training.keep_checkpoints,
        signal=signal,
        tokens_to_store=sum(need.tokens for need in needs),
        store_bytes=sum(need.bytes for need in needs),
    )
    return estimate(load_plan(_carried_out(session, arm)), tokens_of, scale)


def _carried_out(session: Session, arm: str) -> Path:
    """The plan that an arm carries out: the last one, or the first while that is not whole."""
    last = plan_folder(session.part(f"arms/{arm}"))
    name = last.relative_to(session.run.path).as_posix()
    return last if session.run.whole(name) else session.part(f"arms/{arm}/plan")


def _trainable(size: ModelSize, recipe: Recipe) -> int:
    """Parameters with gradients; for LoRA two thin matrices for each of about seven linear maps."""
    lora = recipe.training.lora
    if lora is None:
        return size.parameters
    return min(size.parameters, 7 * size.layers * 2 * lora.rank * size.hidden_size * 2)


def check_disk(session: Session) -> None:
    """Refuse to start what the disk cannot hold.

    Raises:
        RunFolderError: less space is free than the checkpoints and students will take.
    """
    costs = [cost_of(session, arm) for arm in session.loaded.arms]
    shared = max(cost.store_bytes for cost in costs)
    need = sum(cost.disk_bytes - cost.store_bytes for cost in costs) + shared
    free = shutil.disk_usage(session.run.path).free
    if free < need:
        raise RunFolderError(
            f"The run needs about {size_text(need)} of disk and {size_text(free)} are free in"
            f" '{session.run.path}'. Free some space, lower training.keep_checkpoints, or choose"
            " another disk with --set output=FOLDER."
        )


def write_run_file(session: Session) -> None:
    """Write ``run.json`` and ``versions.json``, which the report opens with."""
    path = session.run.path / "run.json"
    before = read_json_or(path, {})
    recipe, loaded = session.recipe, session.loaded
    # The same command on a finished run finds everything there, and finishes nothing.
    finished = None if session.clock.worked else before.get("finished")
    finished = finished or time.strftime("%Y-%m-%d %H:%M:%S %z")
    arms = [arm for arm in loaded.arms if session.part(f"arms/{arm}/plan").is_dir()]
    main_plan = load_plan(session.part(f"arms/{session.main_arm}/plan"))
    atomic_write_json(
        path,
        {
            "name": recipe.name,
            "title": recipe.title or recipe.name,
            "description": recipe.description,
            "paper": recipe.paper,
            "main_arm": session.main_arm,
            "arms": arms,
            "folder": str(session.run.path),
            "fingerprint": loaded.fingerprint,
            "seed": recipe.seed,
            "started": session.clock.started,
            "finished": finished if _finished(session) else None,
            "seconds": session.clock.seconds,
            "student": _model_entry(_student_name(recipe), session.shop.student_size),
            "teacher": _model_entry(_teacher_name(recipe), session.shop.teacher_size),
            "ladder": {name: teacher.model for name, teacher in recipe.ladder.items()},
            "baseline_steps": main_plan.baseline_steps,
        },
    )
    atomic_write_json(session.run.path / "versions.json", versions())


def _finished(session: Session) -> bool:
    return all(session.part(f"arms/{arm}/student").is_dir() for arm in session.loaded.arms)


def _student_name(recipe: Recipe) -> str:
    student = recipe.student
    assert student is not None
    source = _teacher_name(recipe) if student.init_from == "TEACHER" else student.init_from
    name = str(student.model if student.init_from is None else source)
    name += f", {student.layers} layers kept" if student.layers else ""
    return name if student.finetune is None else f"{name}, fine-tuned before"


def _teacher_name(recipe: Recipe) -> str | None:
    """The strongest teacher's model."""
    return list(recipe.ladder.values())[-1].model if recipe.ladder else None


def _model_entry(name: str | None, size: ModelSize | None) -> dict[str, Any] | None:
    return None if size is None else {"name": name, "parameters": size.parameters}


def finish(session: Session) -> Path:
    """Write the report, and into each arm's student a card that says how it was made.

    Returns:
        The path of the report.
    """
    report = session.run.path / "report.html"
    if not session.processes.is_first:
        return report
    write_run_file(session)
    run = load_run(session.run.path)
    write_cards(session, run)
    with session.display.task("Writing the report"):
        return write_report(session.run.path)
