"""The stages of a run, on one screen: recipe -> data -> difficulty -> plan -> student -> report."""

import functools
import gc
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tutelage import TORCH_CAME_FIRST
from tutelage.checks import refuse
from tutelage.files import read_json, room_errors
from tutelage.locks import used
from tutelage.pipeline.context.clock import FILE as SECONDS
from tutelage.pipeline.context.clock import Clock
from tutelage.pipeline.context.display import Display, quiet_libraries
from tutelage.pipeline.context.folder import RECORD, STOPPED, PartsFolder, RunFolder
from tutelage.pipeline.context.inputs import STUDENT_START
from tutelage.pipeline.context.models import Models
from tutelage.pipeline.context.precision import slow_precision
from tutelage.pipeline.context.processes import Processes
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.checks import check_controls, check_models
from tutelage.pipeline.stages.cost import check_disk
from tutelage.pipeline.stages.data import prepare_data, training_rows
from tutelage.pipeline.stages.difficulty import measure_difficulty
from tutelage.pipeline.stages.evaluate import (
    check_suites,
    evaluate_arm,
    evaluate_references,
    make_validator,
)
from tutelage.pipeline.stages.forecast import forecast
from tutelage.pipeline.stages.plan import prepare_plan, write_next_plan
from tutelage.pipeline.stages.positions import check_positions
from tutelage.pipeline.stages.report import finish
from tutelage.pipeline.stages.rollouts import check_held_out
from tutelage.pipeline.stages.signal import prepare_stores, teachers_of
from tutelage.pipeline.stages.store import LIVE
from tutelage.pipeline.stages.student import prepare_student
from tutelage.pipeline.stages.teachers import prepare_teachers
from tutelage.pipeline.stages.texts import prepare_texts
from tutelage.pipeline.stages.train import train_arm
from tutelage.recipe import LoadedRecipe, load_recipe, to_yaml
from tutelage.report.live import LIVE_NAME


@dataclass(frozen=True)
class RunResult:
    """Where a run left what it made.

    Attributes:
        folder: the run folder.
        student: the distilled student, in Hugging Face format with its tokenizer.
        report: the HTML report.
        scores: metric by metric the mean of each arm, and of the references.
    """

    folder: Path
    student: Path
    report: Path
    scores: Mapping[str, Mapping[str, float]]


def run(
    recipe: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    run_dir: str | Path | None = None,
    quiet: bool | None = None,
    replace: bool = False,
) -> RunResult:
    """Carry out a recipe, from data to report; what is already there and fresh is not done again.

    Args:
        recipe: name of a shipped recipe, path of a YAML file, or the recipe as a mapping.
        overrides: ``a.b=c``, as after ``--set``.
        run_dir: the run folder; by default one of its own for each recipe, below ``output``.
        quiet: show no progress; None shows it on a terminal and in a notebook.
        replace: let finished students of another recipe in ``run_dir`` be trained again and
            replaced; otherwise that is refused.

    Raises:
        TutelageError: anything that the user can mend; the message says how.
    """
    with prepared(recipe, overrides, run_dir=run_dir, quiet=quiet, replace=replace) as session:
        carry_out_arms(session)
        report = session.processes.by_first(finish, session)
        return RunResult(
            folder=session.run.path,
            student=session.part(f"arms/{session.main_arm}/student"),
            report=report,
            scores=_scores(session),
        )


def carry_out_arms(session: Session, until: int | None = None) -> None:
    """Train every arm of a prepared run, and evaluate what there is.

    Args:
        session: the run.
        until: stop each arm after this step of its plan, with a checkpoint from which it goes on
            when it is asked for again; nothing is evaluated then. None: train to the end.
    """
    by_first = session.processes.by_first
    by_first(check_disk, session)
    signals = prepare_stores(session)
    validator = make_validator(session)
    if until is None:
        by_first(evaluate_references, session)
    if LIVE not in signals.values():
        session.models.release_teacher()
    for arm in session.loaded.arms:
        rows = training_rows(session, arm)
        next_plan = functools.partial(write_next_plan, session, arm)
        teachers = functools.partial(teachers_of, session, arm, signals.get(arm, LIVE), rows)
        train_arm(session, arm, rows, validator, next_plan, teachers, until)
        if until is None:
            by_first(evaluate_arm, session, arm)


@contextmanager
def prepared(
    recipe: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    run_dir: str | Path | None = None,
    quiet: bool | None = None,
    plans: bool = True,
    texts: bool = True,
    replace: bool = False,
    draws: bool = True,
) -> Iterator[Session]:
    """Do what comes before training: data, teachers, student, difficulty, texts and plans.

    Args:
        recipe: see :func:`run`.
        overrides: see :func:`run`.
        run_dir: see :func:`run`.
        quiet: show no progress; None shows it on a terminal and in a notebook.
        plans: compile the plans.
        texts: let teachers write the answers that the arms learn from.
        replace: see :func:`run`.
        draws: draw the plans.
    """
    with open_session(load_recipe(recipe, overrides), run_dir, quiet) as session:
        session.draws = draws
        arms = ", ".join(session.loaded.arms)
        session.display.note(f"{session.recipe.name}: {arms}, in {session.run.path}")
        if slow := slow_precision(session.loaded.arms.values()):
            session.display.note(f"note: {slow}")
        _mention_processes(session)
        if TORCH_CAME_FIRST:
            session.display.note(
                "note: torch was imported before tutelage, so its threads spin while they wait,"
                " which is slow where other programs run. Import tutelage first, or set"
                " OMP_WAIT_POLICY=PASSIVE."
            )
        by_first = session.processes.by_first
        by_first(check_models, session)
        by_first(check_suites, session)
        by_first(forecast, session, replace=replace)
        by_first(prepare_data, session)
        by_first(check_controls, session)
        by_first(check_held_out, session)
        by_first(check_positions, session)
        prepare_teachers(session)
        prepare_student(session)
        by_first(_measure_and_plan, session, plans, texts)
        if plans and (texts or not any(arm.uses_text for arm in session.loaded.arms.values())):
            by_first(forecast, session, replace=replace, planned=True)
            session.run.take_over()
        yield session


def _measure_and_plan(session: Session, plans: bool, texts: bool) -> None:
    """Difficulty, written answers and plans of all arms, as far as they are asked for."""
    arms = session.loaded.arms
    profiles = {arm: measure_difficulty(session, arms[arm]) for arm in arms}
    pairs = prepare_texts(session, profiles) if texts else {}
    for arm in arms if plans else ():
        prepare_plan(session, arm, profiles[arm], pairs.get(arm))


@contextmanager
def open_session(
    loaded: LoadedRecipe, run_dir: str | Path | None, quiet: bool | None
) -> Iterator[Session]:
    """Look the recipe through, open its run folder, and set up what the stages share."""
    quiet_libraries()
    processes = Processes()
    processes.by_first(refuse, loaded, run_dir)
    recipe = loaded.recipe
    if recipe.training.num_threads is not None:
        torch.set_num_threads(recipe.training.num_threads)
    output = Path(recipe.output)
    path = Path(run_dir) if run_dir else output / f"{recipe.name}-{loaded.fingerprint[:8]}"
    folder = RunFolder(path, loaded.fingerprint, to_yaml(loaded), lock=processes.is_first)
    display = Display(quiet if processes.is_first else True)
    cache = PartsFolder(output / "cache")
    if processes.is_first:
        folder.tell = cache.tell = display.warn
    sharing = used(cache.path) if processes.is_first else nullcontext()
    # The cache first: whoever cleans it, and run folders beside it, keeps runs out of both.
    with _garbage_found_fast(), room_errors(path), _leaves_nothing_new(path), sharing, folder:
        processes.see(path, cache.path, display.note)
        clock = Clock(path, keeps=processes.is_first, tell=folder.tell)
        display.beat = clock.beat
        models = Models(loaded, folder.part(STUDENT_START), display)
        yield Session(loaded, folder, cache, models, display, processes, clock)


@contextmanager
def _garbage_found_fast() -> Iterator[None]:
    """Collecting garbage looks at what the run makes, and not at half a million older objects."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _leaves_nothing_new(path: Path) -> Iterator[None]:
    """When the block fails before it has made any part, the folders that it made go again."""
    new = [place for place in (path, *path.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        opened = {".lock", "recipe.yaml", RECORD, SECONDS, STOPPED, LIVE_NAME}
        if new and path.is_dir() and {p.name for p in path.iterdir()} <= opened:
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):  # another run is in one of them
                for parent in new[1:]:
                    parent.rmdir()
        raise


def _mention_processes(session: Session) -> None:
    """How many processes work on the run, and what of their launcher's wishes does not count."""
    processes, note = session.processes, session.display.note
    if processes.count > 1:
        note(f"{processes.count} processes share the training")
    wanted = {recipe.training.precision for recipe in session.loaded.arms.values()}
    meant = {"no": "float32", "bf16": "bfloat16"}.get(processes.asked_precision)
    if processes.asked_precision != "no" and wanted != {meant}:
        note(
            f"note: the launcher's --mixed_precision {processes.asked_precision} does not count;"
            f" the recipe's training.precision does: {', '.join(sorted(wanted))}"
        )


def _scores(session: Session) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    folders = {name: session.part(f"references/{name}") for name in ("teacher", "student_before")}
    folders.update({arm: session.part(f"arms/{arm}") for arm in session.loaded.arms})
    for name, folder in folders.items():
        path = folder / "evaluation" / "scores.json"
        if path.exists():
            for metric, score in read_json(path)["scores"].items():
                found.setdefault(metric, {})[name] = score["mean"]
    return found
