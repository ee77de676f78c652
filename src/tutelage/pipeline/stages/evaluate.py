"""The stages that evaluate: the references, and the students of the arms, with every suite."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tutelage.data import padding_id
from tutelage.errors import ConfigError
from tutelage.evaluation import (
    OWN,
    Question,
    Suite,
    evaluate_suite,
    questions_of,
    save_agreement,
    save_evaluation,
    teacher_agreement,
)
from tutelage.evaluation.pieces import worth_keeping
from tutelage.files import remove_directory
from tutelage.generation import AskedModel
from tutelage.pipeline.context.answers import kept_answers, room_warning
from tutelage.pipeline.context.inputs import Inputs, evaluation_inputs, split_of, validates
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.context.suites import agreement_asked
from tutelage.pipeline.stages.data import rows_of, rows_to_compare
from tutelage.pipeline.stages.signal import strongest_signal
from tutelage.teachers import LiveTeacher
from tutelage.training.validation import cross_entropy


@dataclasses.dataclass(frozen=True)
class Tested:
    """A model that is evaluated.

    Attributes:
        part: where the results of the first suite go; the others are beside it.
        title: for the progress display.
        asked: the model.
        identity: what identifies it.
        compared: whether its agreement with the strongest teacher is measured.
    """

    part: str
    title: str
    asked: AskedModel
    identity: Inputs
    compared: bool


def check_suites(session: Session) -> None:
    """Read the questions of all suites that have their own, before anything is made.

    Raises:
        ConfigError: a suite cannot be made.
        DataError: questions cannot be read, or a metric cannot score their answers.
    """
    suites = [*session.suites.values()]
    if session.recipe.selection.metric is not None:
        suites.append(session.validation_suite)
    for suite in suites:
        if suite.read is not None:
            suite.check(suite.questions())


def make_validator(session: Session) -> Callable[[Any], dict[str, float]] | None:
    """Named metrics of a model on what is asked in training; None when nothing is."""
    if not validates(session, session.recipe):
        return None
    if session.recipe.selection.is_continuous:
        return _held_out_validator(session)
    suite, models = session.validation_suite, session.models
    questions = _questions(session, suite)

    def validate(model: Any) -> dict[str, float]:
        engine = models.engine(models.in_training(model))
        evaluated = evaluate_suite(engine, questions, suite)
        return {name: score.mean for name, score in evaluated.scores.items()}

    return validate


def _held_out_validator(session: Session) -> Callable[[Any], dict[str, float]]:
    """What can be said of a model at the answers of the validation data, in nats per token.

    Raises:
        ConfigError: no validation row has an answer that can be read.
    """
    selection, models = session.recipe.selection, session.models
    rows = rows_to_compare(rows_of(session, "validation"))
    if not len(rows):
        raise ConfigError(
            f"selection.metric={selection.metric} is measured at the validation data's answers, and"
            " no row there has one within data.max_length. Give some, or choose another metric."
        )
    rows = rows.select(range(min(selection.limit or len(rows), len(rows))))
    pad = padding_id(models.tokenizer)
    if selection.metric == "log_likelihood":

        def likelihood(model: Any) -> dict[str, float]:
            found = cross_entropy(model, rows, vocab_size=models.vocab_size, pad_token_id=pad)
            return {"log_likelihood": -found["loss"]}

        return likelihood
    teacher = LiveTeacher(models.teacher, models.vocab_size)

    def closeness(model: Any) -> dict[str, float]:
        found = teacher_agreement(
            model,
            teacher,
            rows,
            vocab_size=models.vocab_size,
            batch_tokens=session.recipe.difficulty.batch_tokens,
            pad_token_id=pad,
        )
        return {"neg_forward_kl": -found.forward_kl, "log_likelihood": -found.student_nll}

    return closeness


def results_of(session: Session, tested: Tested) -> Iterator[tuple[str, Suite, Inputs]]:
    """Where the results of a model are, suite by suite, and what they are made from."""
    for ending, suite in session.suites.items():
        if _has_questions(session, suite):
            compared = tested.compared and suite.name == OWN
            inputs = evaluation_inputs(
                session, tested.asked, tested.identity, suite, compared=compared
            )
            yield tested.part + ending, suite, inputs


def evaluate(session: Session, tested: Tested) -> None:
    """Evaluate a model with every suite, and where it says so its agreement with the teacher."""
    asked = dataclasses.replace(tested.asked, load=functools.cache(tested.asked.load))
    for part, suite, inputs in results_of(session, tested):
        with session.missing(part, inputs) as missing:
            if missing:
                _evaluate(session, tested.title, asked, part, suite, inputs)
        # A kill between the last answer and this line leaves them behind.
        remove_directory(session.part(f"{part}.unfinished"))


def _evaluate(
    session: Session, title: str, asked: AskedModel, part: str, suite: Suite, inputs: Inputs
) -> None:
    title = title if suite.name == OWN else f"{title}, {suite.name}"
    questions = _questions(session, suite)
    # A model in training, or adapters alone, are asked in this process whatever the recipe says.
    wanted = worth_keeping(suite, questions) or session.recipe.engine.kind != "local"
    unfinished = session.part(f"{part}.unfinished")
    with (
        session.display.task(f"Evaluating {title}") as report,
        kept_answers(unfinished, inputs, wanted=wanted) as kept,
        session.making(part, inputs, "evaluation") as folder,
    ):
        engine = session.models.engine(asked)
        evaluated = evaluate_suite(engine, questions, suite, report, kept=kept)
        save_evaluation(folder, evaluated)
        answers = len(questions) * len(suite.asked_seeds)
        if warning := room_warning(title, evaluated.without_room, answers):
            session.display.warn(warning)
        if "teacher" in inputs:
            rows = suite.rows_of(rows_of(session, suite.split))
            _compare(session, title, asked.load(), rows, folder)


def _questions(session: Session, suite: Suite) -> list[Question]:
    """What a suite asks: its own questions, or rows of the data."""
    if suite.read is not None:
        return suite.questions()
    return questions_of(suite.rows_of(rows_of(session, suite.split)))


def _has_questions(session: Session, suite: Suite) -> bool:
    return suite.read is not None or bool(split_of(session, suite.split))


def _compare(session: Session, title: str, model: Any, rows: Any, folder: Path) -> None:
    """Measure a student's agreement with the strongest teacher."""
    compared = rows_to_compare(rows)
    if len(compared) < len(rows):
        session.display.note(
            f"{title}: compared with the teacher at {len(compared)} of {len(rows)} examples;"
            " the others have no reference answer within data.max_length, or none that follows"
            " their prompt as it is opened"
        )
    if len(compared):
        agreement = teacher_agreement(
            model,
            strongest_signal(session),
            compared,
            vocab_size=session.models.vocab_size,
            batch_tokens=session.recipe.difficulty.batch_tokens,
        )
        save_agreement(folder, agreement)


def evaluate_references(session: Session) -> None:
    """The teacher, and the student before distillation: what the arms are held against."""
    for tested in tested_references(session):
        evaluate(session, tested)


def evaluate_arm(session: Session, arm: str) -> None:
    """The selected student of an arm, and the last one when that is another."""
    for tested in tested_students(session, arm):
        evaluate(session, tested)


def tested_references(session: Session) -> Iterator[Tested]:
    """The teachers whose tokenizer is the student's, and the student before distillation."""
    if not _anything_to_ask(session):
        return
    settings, models, ladder = session.recipe.evaluation, session.models, session.recipe.ladder
    strongest = models.strongest if ladder else ""
    for name in ladder if settings.teacher else ():
        # The tokenized test data are the student's.
        if name == strongest or models.shares_tokenizer(name):
            place = "teacher" if name == strongest else f"teacher-{name}"
            load = functools.partial(models.any_teacher, name)
            yield Tested(
                f"references/{place}/evaluation",
                session.recipe.teacher_title(name),
                models.asked_teacher(name, load, models.tokenizer),
                models.teacher_identity(name),
                compared=False,
            )
    if settings.student_before:
        yield Tested(
            "references/student_before/evaluation",
            "the student before distillation",
            models.asked_student(),
            models.student_identity(),
            compared=_compares(session),
        )


def tested_students(session: Session, arm: str) -> Iterator[Tested]:
    """The students of an arm that are evaluated, as far as they are there."""
    if not _anything_to_ask(session):
        return
    places = {"evaluation": (arm, session.part(f"arms/{arm}/student"))}
    last = session.part(f"arms/{arm}/student_last")
    if session.recipe.evaluation.checkpoints == "best_and_last" and last.is_dir():
        places["evaluation_last"] = (f"{arm}, last checkpoint", last)
    for part, (title, place) in places.items():
        yield Tested(
            f"arms/{arm}/{part}",
            title,
            session.models.asked_saved(str(place)),
            session.models.saved_identity(str(place)),
            compared=_compares(session),
        )


def _anything_to_ask(session: Session) -> bool:
    return any(_has_questions(session, suite) for suite in session.suites.values())


def _compares(session: Session) -> bool:
    """Whether students are compared with the strongest teacher."""
    asked = agreement_asked(session.recipe)
    return asked and session.models.shares_tokenizer(session.models.strongest)
