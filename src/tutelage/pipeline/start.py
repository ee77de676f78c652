"""The stage that makes the student that all arms start from: taken, cut, or cut and healed."""

from typing import Any

from tutelage.models import keep_layers, load_model
from tutelage.pipeline.inputs import start_inputs
from tutelage.pipeline.prepare import rows_of
from tutelage.pipeline.session import Session
from tutelage.pipeline.students import save_checked
from tutelage.training.saving import disk_checked

PART = "student_start"


def find_student(session: Session) -> bool:
    """Say where the student is, and whether it is there already."""
    student = session.recipe.student
    assert student is not None
    if student.init_from is None:
        session.shop.student_place = session.shop.student_source
        return True
    session.shop.student_place = str(session.part(PART))
    return session.ready(PART, start_inputs(session))


def prepare_student(session: Session) -> None:
    """Build the student when it is cut from another model."""
    if find_student(session):
        return
    student = session.recipe.student
    assert student is not None
    with (
        session.display.task(f"Keeping {student.layers} layers for the student"),
        session.making(PART, start_inputs(session), "student") as folder,
        disk_checked(folder),
    ):
        save_checked(
            _cut(session),
            session.shop.tokenizer,
            folder,
            rows_of(session, "train"),
            lambda: load_model(str(folder), **session.shop.student_loading),
            "The saved student before training",
        )


def _cut(session: Session) -> Any:
    student, shop = session.recipe.student, session.shop
    assert student is not None
    model = load_model(shop.cut_from, **shop.student_loading)
    return model if student.layers is None else keep_layers(model, student.layers)
