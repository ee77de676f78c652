"""The stages that evaluate: the references, and the students of the arms."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutelage.evaluation import (
    EvaluationSettings,
    evaluate_answers,
    save_agreement,
    save_evaluation,
    teacher_agreement,
)
from tutelage.generation import GenerationSettings
from tutelage.pipeline.context.inputs import Inputs, evaluation_inputs
from tutelage.pipeline.context.models import on_device
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.data import rows_to_compare
from tutelage.pipeline.stages.signal import strongest_signal

STUDENT_BEFORE = "references/student_before/evaluation"
"""Where the evaluation of the untrained student is."""


def evaluation_settings(session: Session, *, greedy: bool = False) -> EvaluationSettings:
    """The recipe's evaluation; ``greedy`` for the validations during training."""
    settings = session.recipe.evaluation
    return EvaluationSettings(
        metrics={name: dict(options) for name, options in settings.metrics.items()},
        generation=settings.values_of(
            GenerationSettings, **({"sampling_temperature": 0.0} if greedy else {})
        ),
        seeds=tuple(settings.seeds),
    )


def make_validator(session: Session, rows: Any) -> Callable[[Any], dict[str, float]] | None:
    """Named metrics of a model on the validation rows; None when there are none to select by."""
    selection = session.recipe.selection
    if rows is None or selection.metric is None:
        return None
    rows = rows.select(range(min(selection.limit or len(rows), len(rows))))
    settings = evaluation_settings(session, greedy=True)

    def validate(model: Any) -> dict[str, float]:
        evaluation = evaluate_answers(model, session.models.tokenizer, rows, settings)
        return {name: score.mean for name, score in evaluation.scores.items()}

    return validate


def evaluate(
    session: Session,
    part: str,
    title: str,
    model: Callable[[], Any],
    inputs: Inputs,
    rows: Any,
) -> None:
    """Evaluate a model on the test rows, and where it says so its agreement with the teacher.

    Args:
        session: the run.
        part: where the results go.
        title: for the progress display.
        model: loads it, on its device.
        inputs: what the results are made from; see ``evaluation_inputs``.
        rows: the test rows.
    """
    if session.ready(part, inputs):
        return
    settings = session.recipe.evaluation
    if settings.limit is not None:
        rows = rows.select(range(min(settings.limit, len(rows))))
    with (
        session.display.task(f"Evaluating {title}") as report,
        session.making(part, inputs, "evaluation") as folder,
    ):
        loaded = model()
        evaluation = evaluate_answers(
            loaded, session.models.tokenizer, rows, evaluation_settings(session), report
        )
        save_evaluation(folder, evaluation, rows)
        compare = "teacher" in inputs
        compared = rows_to_compare(rows) if compare else []
        if compare and len(compared) < len(rows):
            session.display.note(
                f"{title}: compared with the teacher at {len(compared)} of {len(rows)} examples;"
                " the others have no reference answer within data.max_length, or none that follows"
                " their prompt as it is opened"
            )
        if len(compared):
            agreement = teacher_agreement(
                loaded,
                strongest_signal(session),
                compared,
                vocab_size=session.models.vocab_size,
                batch_tokens=session.recipe.difficulty.batch_tokens,
            )
            save_agreement(folder, agreement)


def evaluate_references(session: Session, rows: Any) -> None:
    """The teacher, and the student before distillation: what the arms are held against."""
    if rows is None:
        return
    settings, models = session.recipe.evaluation, session.models
    for name, part in tested_teachers(session).items():
        title = session.recipe.teacher_title(name)
        inputs = evaluation_inputs(session, models.teacher_identity(name), compared=False)
        evaluate(session, part, title, functools.partial(models.any_teacher, name), inputs, rows)
    if settings.student_before:
        evaluate(
            session,
            STUDENT_BEFORE,
            "the student before distillation",
            lambda: on_device(models.student()),
            evaluation_inputs(session, models.student_identity(), compared=compares(session)),
            rows,
        )


def tested_teachers(session: Session) -> dict[str, str]:
    """The teachers that are evaluated, and where the results of each are."""
    ladder = session.recipe.ladder
    strongest = session.models.strongest if ladder else ""
    return {
        name: f"references/{'teacher' if name == strongest else f'teacher-{name}'}/evaluation"
        for name in (ladder if session.recipe.evaluation.teacher else ())
        # The tokenized test data are the student's.
        if name == strongest or session.models.shares_tokenizer(name)
    }


def compares(session: Session) -> bool:
    """Whether students are compared with the strongest teacher."""
    wanted = session.recipe.evaluation.agreement and bool(session.recipe.ladder)
    return wanted and session.models.shares_tokenizer(session.models.strongest)


def evaluate_arm(session: Session, arm: str, rows: Any) -> None:
    """The selected student of an arm, and the last one when that is another."""
    if rows is None:
        return
    for part, title in (("evaluation", arm), ("evaluation_last", f"{arm}, last checkpoint")):
        place = tested_student(session, arm, part)
        if place is not None:
            evaluate(
                session,
                f"arms/{arm}/{part}",
                title,
                functools.partial(session.models.saved_student, str(place)),
                arm_evaluation_inputs(session, place),
                rows,
            )


def arm_evaluation_inputs(session: Session, place: Path) -> Inputs:
    """What the results of a student of this run are made from."""
    model = session.models.saved_identity(str(place))
    return evaluation_inputs(session, model, compared=compares(session))


def tested_student(session: Session, arm: str, part: str) -> Path | None:
    """The student that an evaluation of an arm is about; None when there is none to evaluate."""
    if part == "evaluation":
        return session.part(f"arms/{arm}/student")
    last = session.part(f"arms/{arm}/student_last")
    wanted = session.recipe.evaluation.checkpoints == "best_and_last"
    return last if wanted and last.is_dir() else None
