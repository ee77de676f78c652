"""Stages after training: evaluation, model card, report."""

from collections.abc import Callable
from typing import Any

from tutelage.evaluation import (
    EvaluationSettings,
    evaluate_answers,
    save_agreement,
    save_evaluation,
    teacher_agreement,
)
from tutelage.generation import GenerationSettings
from tutelage.models import load_model
from tutelage.pipeline.caching import strongest_signal
from tutelage.pipeline.session import Session, plain
from tutelage.pipeline.workshop import loading, on_device


def evaluation_settings(session: Session, *, greedy: bool = False) -> EvaluationSettings:
    """The recipe's evaluation; ``greedy`` for the validations during training."""
    settings = session.recipe.evaluation
    return EvaluationSettings(
        metrics={name: dict(options) for name, options in settings.metrics.items()},
        generation=GenerationSettings(
            max_new_tokens=settings.max_new_tokens,
            max_total_tokens=settings.max_total_tokens,
            sampling_temperature=0.0 if greedy else settings.sampling_temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            batch_tokens=settings.batch_tokens,
            precision=settings.precision,
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
        evaluation = evaluate_answers(model, session.shop.tokenizer, rows, settings)
        return {name: score.mean for name, score in evaluation.scores.items()}

    return validate


def evaluate(
    session: Session, part: str, title: str, place: str, rows: Any, teacher: str = ""
) -> None:
    """Evaluate a model on the test rows, and its agreement with the strongest teacher.

    Args:
        session: the run.
        part: where the results go.
        title: for the progress display.
        place: where the model is.
        rows: the test rows.
        teacher: its name when it is one of the teachers.
    """
    settings = session.recipe.evaluation
    shop = session.shop
    options = loading(session.recipe.ladder[teacher]) if teacher else shop.student_loading
    compare = settings.agreement and bool(session.recipe.ladder) and not teacher
    compare = compare and shop.shares_tokenizer(shop.strongest)
    inputs = {
        "model": shop.identify(place, options),
        "data": session.run.fingerprint("data"),
        "evaluation": plain(settings),
        "compared_with": shop.teacher_identity(shop.strongest) if compare else None,
    }
    if session.run.fresh(part, inputs):
        return
    if settings.limit is not None:
        rows = rows.select(range(min(settings.limit, len(rows))))
    if teacher:
        model = shop.teacher if teacher == shop.strongest else shop.load_teacher(teacher)
    else:
        model = on_device(load_model(place, **options))
    with (
        session.timed("evaluation"),
        session.display.task(f"Evaluating {title}") as report,
        session.run.making(part, inputs) as folder,
    ):
        evaluation = evaluate_answers(
            model, session.shop.tokenizer, rows, evaluation_settings(session), report
        )
        save_evaluation(folder, evaluation, rows)
        if compare:
            agreement = teacher_agreement(
                model,
                strongest_signal(session),
                rows,
                vocab_size=session.shop.vocab_size,
                batch_tokens=session.recipe.difficulty.batch_tokens,
            )
            save_agreement(folder, agreement)


def evaluate_references(session: Session, rows: Any) -> None:
    """The teacher, and the student before distillation: what the arms are held against."""
    if rows is None:
        return
    settings = session.recipe.evaluation
    shop = session.shop
    for name in session.recipe.ladder if settings.teacher else ():
        strongest = name == shop.strongest
        if not strongest and not shop.shares_tokenizer(name):
            continue  # the tokenized test data are the student's
        folder = "teacher" if strongest else f"teacher-{name}"
        title = "the teacher" if len(session.recipe.ladder) == 1 else f"the teacher {name}"
        place = shop.teacher_places[name]
        evaluate(session, f"references/{folder}/evaluation", title, place, rows, teacher=name)
    if settings.student_before:
        assert shop.student_place is not None
        evaluate(
            session,
            "references/student_before/evaluation",
            "the student before distillation",
            shop.student_place,
            rows,
        )


def evaluate_arm(session: Session, arm: str, rows: Any) -> None:
    """The selected student of an arm, and the last one when that is another."""
    if rows is None:
        return
    evaluate(
        session,
        f"arms/{arm}/evaluation",
        arm,
        str(session.part(f"arms/{arm}/student")),
        rows,
    )
    last = session.part(f"arms/{arm}/student_last")
    if last.is_dir() and session.recipe.evaluation.checkpoints == "best_and_last":
        evaluate(session, f"arms/{arm}/evaluation_last", f"{arm}, last checkpoint", str(last), rows)
