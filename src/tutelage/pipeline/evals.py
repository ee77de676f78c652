"""Evaluate any models with any suites: what ``tutelage eval`` does."""

import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.checks.places import check_folder_can_be
from tutelage.errors import ConfigError
from tutelage.evaluation import (
    OWN,
    Question,
    Suite,
    evaluate_suite,
    questions_fingerprint,
    save_evaluation,
)
from tutelage.evaluation.pieces import worth_keeping
from tutelage.files import atomic_write_json, read_json, remove_leftovers
from tutelage.generation import make_engine
from tutelage.generation.engines.table import what_decides
from tutelage.pipeline.context.answers import kept_answers, room_warning
from tutelage.pipeline.context.display import Display, quiet_libraries
from tutelage.pipeline.context.folder import PartsFolder, part_digest
from tutelage.pipeline.context.identity import versions
from tutelage.pipeline.context.inputs import suite_inputs
from tutelage.pipeline.context.said import unreached
from tutelage.pipeline.context.subjects import Subject, served, subjects_of
from tutelage.pipeline.context.suites import chosen_suite, suites_of
from tutelage.recipe import Recipe, effective, load_recipe
from tutelage.report.evaluation_page import write_evaluation_page
from tutelage.report.evaluations import ModelResult

SUITE_FILE = "suite.json"
"""Beside the scores: which model and suite they are of, with what, and how long it took."""

PAGE = "report.html"
"""In the folder of the results: the last ones that were asked for, side by side."""

_UNFINISHED = ".unfinished"
"""In the folder of the results: answers of evaluations that were cut off."""


@dataclass(frozen=True)
class Result:
    """What one model scored in one suite.

    Attributes:
        model: its title.
        suite: its name.
        folder: where answers and scores are.
        num_examples: how many questions.
        scores: by metric, with ``mean``, ``interval``, ``seeds``, ``groups``.
        truncated: share of answers that the length limit ended.
        seconds: that answering and scoring took, in the try that finished.
        reused: whether it was there.
        without_room: answers that were cut before their first word, because the prompt fills all.
    """

    model: str
    suite: str
    folder: Path
    num_examples: int
    scores: Mapping[str, Any]
    truncated: float
    seconds: float
    reused: bool
    without_room: int = 0


def evaluate_models(
    models: Sequence[str],
    suites: Sequence[Mapping[str, Any]],
    settings: Sequence[str] = (),
    *,
    out: str | Path = "evals",
    server: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    quiet: bool | None = None,
) -> list[Result]:
    """Evaluate models, each with all suites; what is there and fresh is not made again.

    Args:
        models: folders, names on the hub, run folders (all of their models); with ``server`` names
            of models there.
        suites: ``kind``, ``name`` and options of each, as in a recipe's ``evaluation.suites``.
        settings: further ``a.b=c`` of a recipe, such as ``evaluation.precision=bfloat16``.
        out: where results are written, a folder for each model with one for each suite.
        server: options of the engine ``server``.
        dtype: type of the weights in memory.
        trust_remote_code: whether code that comes with a model runs.
        quiet: show no progress; None shows it on a terminal and in a notebook.

    Raises:
        ConfigError: an unknown suite or option, or nothing to evaluate.
        DataError: a suite's data cannot be read or used. All of them are read before a model is.
        ModelError: a model cannot be loaded.
    """
    check_folder_can_be(Path(out))
    recipe = _recipe(suites, settings, server)
    display = Display(quiet)
    quiet_libraries()
    made = suites_of(recipe).values()
    for told in unreached(recipe, {suite.name: suite for suite in made}, settings):
        display.warn(told)
    asked = [(suite, _questions(suite)) for suite in made]
    for suite, questions in asked:
        display.note(f"{suite.name}: {len(questions):,} questions")
    options = {"dtype": dtype, "trust_remote_code": trust_remote_code}
    subjects = (
        subjects_of(list(models), options, display)
        if server is None
        else served(list(models), what_decides(recipe.engine.kind, recipe.engine.options))
    )
    folder = PartsFolder(out)
    folder.tell = display.warn
    results: list[Result] = []
    for subject in subjects:
        remove_leftovers(folder.part(subject.slug), alone=False)
        # Loaded for the first suite that asks it, and let go after the last.
        load = functools.cache(subject.asked.load)
        one = dataclasses.replace(subject, asked=dataclasses.replace(subject.asked, load=load))
        for suite, questions in asked:
            results.append(_evaluate(recipe, folder, _Asked(one, suite, questions), display))
    # The page is of what was asked for now; the first model is what the others are held against.
    shown = [ModelResult.read(one.folder, one.model, one.suite) for one in results]
    write_evaluation_page(shown, folder.path / PAGE)
    return results


def _recipe(
    suites: Sequence[Mapping[str, Any]],
    settings: Sequence[str],
    server: Mapping[str, Any] | None,
) -> Recipe:
    """What is asked for as a recipe, which checks names, options and values."""
    if not suites:
        raise ConfigError("No suite is named. Name some; `tutelage ls suites` lists them.")
    for suite in suites:
        if suite["kind"] == OWN:
            raise ConfigError(
                f"The suite '{OWN}' asks the test rows of a recipe's data, and here is no recipe."
                " Name a suite that reads a file; `tutelage ls suites` lists them."
            )
    engine = {} if server is None else {"engine": {"kind": "server", **server}}
    tree = {"name": "eval", "evaluation": {"suites": list(suites)}, **engine}
    return load_recipe(tree, settings, partial=True).recipe


def _questions(suite: Suite) -> list[Question]:
    """The questions of a suite, which its metrics can score."""
    if suite.read is None:
        raise ConfigError(
            f"The suite '{suite.name}' has no questions of its own, and here is no recipe whose"
            " data it could ask. Name a suite that reads a file."
        )
    questions = suite.questions()
    suite.check(questions)
    return questions


@dataclass(frozen=True)
class _Asked:
    """One model and one suite."""

    subject: Subject
    suite: Suite
    questions: list[Question]

    @property
    def part(self) -> str:
        """Where the results are."""
        return f"{self.subject.slug}/{self.suite.name}"

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.subject.title}, {self.suite.name}"


def _evaluate(recipe: Recipe, folder: PartsFolder, asked: _Asked, display: Display) -> Result:
    suite, values = asked.suite, effective(recipe)["evaluation"]
    inputs = {
        "model": dict(asked.subject.identity),
        "questions": questions_fingerprint(asked.questions),
        "suite": suite_inputs(chosen_suite(recipe, suite.name), suite),
        "engine": values.get("engine", "local"),
        "precision": values["precision"],
    }
    reused = folder.fresh(asked.part, inputs)
    if reused:
        display.note(f"{asked.title}: reused")
    else:
        _make(recipe, folder, asked, inputs, display)
    found = _read(folder.part(asked.part), asked.subject.title, suite.name, reused)
    warning = room_warning(
        asked.title, found.without_room, len(asked.questions) * len(suite.asked_seeds)
    )
    if warning:
        display.warn(warning)
    return found


def _make(
    recipe: Recipe, folder: PartsFolder, asked: _Asked, inputs: dict[str, Any], display: Display
) -> None:
    """Ask, score and write."""
    begun = time.monotonic()
    suite, model = asked.suite, asked.subject.asked
    place = folder.part(_UNFINISHED) / part_digest(asked.part, inputs)[:16]
    wanted = recipe.engine.kind != "local" or worth_keeping(suite, asked.questions)
    with (
        display.task(f"Evaluating {asked.title}") as report,
        kept_answers(place, inputs, wanted=wanted) as kept,
    ):
        if kept:
            there = f"{len(kept):,} answers are there from a run that was cut off"
            display.note(f"{asked.title}: {there}")
        options = dict(recipe.engine.options)
        if recipe.engine.kind == "server":
            options["model"] = model.place
        engine = make_engine(recipe.engine.kind, options, model)
        evaluated = evaluate_suite(engine, asked.questions, suite, report, kept=kept)
        with folder.making(asked.part, inputs) as part:
            save_evaluation(part, evaluated)
            atomic_write_json(
                part / SUITE_FILE,
                {
                    "model": asked.subject.title,
                    "place": model.place,
                    "suite": suite.name,
                    "asked": inputs["suite"],
                    "seconds": round(time.monotonic() - begun, 3),
                    "versions": versions(),
                },
            )


def _read(folder: Path, model: str, suite: str, reused: bool) -> Result:
    scores, about = read_json(folder / "scores.json"), read_json(folder / SUITE_FILE)
    return Result(
        model=model,
        suite=suite,
        folder=folder,
        num_examples=scores["num_examples"],
        scores=scores["scores"],
        truncated=scores["truncated"],
        seconds=about["seconds"],
        reused=reused,
        without_room=scores.get("without_room", 0),
    )
