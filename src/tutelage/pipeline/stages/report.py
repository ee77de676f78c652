"""The stage that says what a run did: run.json, versions, the report, a card with each student."""

import time
from pathlib import Path
from typing import Any

from tutelage.curriculum import load_plan
from tutelage.models import ModelSize
from tutelage.pipeline.context.identity import versions
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.cards import write_cards
from tutelage.proofs import read_sealed, write_sealed
from tutelage.recipe import Recipe
from tutelage.report import load_run, write_report


def write_run_file(session: Session) -> None:
    """Write ``run.json`` and ``versions.json``, which the report opens with."""
    path = session.run.path / "run.json"
    before = read_sealed(path)
    if before is None and path.exists():
        session.run.tell(f"'{path}' is damaged: when the run ended is not known any more")
    before = before or {}
    recipe, loaded = session.recipe, session.loaded
    # The same command on a finished run finds everything there, and finishes nothing.
    finished = None if session.clock.worked else before.get("finished")
    finished = finished or time.strftime("%Y-%m-%d %H:%M:%S %z")
    arms = [arm for arm in loaded.arms if session.part(f"arms/{arm}/plan").is_dir()]
    main_plan = load_plan(session.part(f"arms/{session.main_arm}/plan"))
    write_sealed(
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
            "seeds": recipe.all_seeds,
            "started": session.clock.started,
            "finished": finished if _finished(session) else None,
            "seconds": session.clock.seconds,
            "student": _model_entry(_student_name(recipe), session.models.student_size),
            "teacher": _model_entry(_teacher_name(recipe), session.models.teacher_size),
            "ladder": {name: teacher.model for name, teacher in recipe.ladder.items()},
            "baseline_steps": main_plan.baseline_steps,
            "suites": [suite.called for suite in recipe.evaluation.suites],
        },
    )
    write_sealed(session.run.path / "versions.json", versions())


def _finished(session: Session) -> bool:
    return all(session.part(f"arms/{arm}/student").is_dir() for arm in session.loaded.arms)


def _student_name(recipe: Recipe) -> str:
    student = recipe.student_section
    source = _teacher_name(recipe) if student.init_from == "TEACHER" else student.init_from
    name = str(source or student.model)
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
    write_run_file(session)
    run = load_run(session.run.path)
    write_cards(session, run)
    with session.display.task("Writing the report"):
        return write_report(session.run.path)
