"""One task of a study carried out, and its result."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.errors import ConfigError, NonFiniteLossError
from tutelage.evaluation.kept import clusters_of, values_of
from tutelage.files import remove_directory
from tutelage.pipeline.context.identity import versions
from tutelage.pipeline.trial import Tried, price, try_out
from tutelage.report.run import Evaluated, load_evaluation, load_run
from tutelage.report.run import Run as RunRead
from tutelage.studies.board import Board
from tutelage.studies.due import Task
from tutelage.studies.leftovers import drop_students
from tutelage.studies.load import LoadedStudy
from tutelage.studies.pilot import pilot
from tutelage.studies.results import Result, Scores
from tutelage.studies.sampler import ask, journal_of
from tutelage.studies.search import rung_value
from tutelage.types import Ledger

_ROUNDS = 6
"""How often the number of updates that costs an amount is corrected."""

_CLOSE = 0.003
"""What an arm spends may differ from what it may spend by such a part."""


def carry_out(loaded: LoadedStudy, board: Board, task: Task) -> Result:
    """Do a task; what it had done before, here or in a process that was killed, is not done again.

    Args:
        loaded: the study.
        board: its folder.
        task: what to do.

    Raises:
        TutelageError: the run cannot be made; the message says why.
    """
    if task.role in ("price", "pilot"):
        return _priced(loaded, board, task)
    if task.asking is not None:
        asked = ask(task.asking, journal_of(board.path, task.cell.name))
        return _result(task, steps=0, total_steps=0, asked=asked)
    if task.role == "search":
        return _rung(loaded, board, task)
    tried = try_out(task.recipe, board.run_folder(task.key))
    result = final_result(task, tried)
    if loaded.study.keep == "scores":
        drop_students(tried)
    return result


def _result(task: Task, **found: Any) -> Result:
    cell = task.cell
    return Result(
        key=task.key,
        role=task.role,
        cell=cell.name,
        arm=cell.arm,
        levels={level.factor: level.label for level in cell.levels},
        tuned={level.factor: level.label for level in cell.tuned},
        seeds=dict(task.seeds),
        versions=versions(),
        **found,
    )


# ---- the search -----------------------------------------------------------------------------


def _rung(loaded: LoadedStudy, board: Board, task: Task) -> Result:
    search = loaded.study.search
    assert search is not None
    try:
        tried = try_out(task.recipe, board.run_folder(task.key), until=task.until)
    except NonFiniteLossError:  # it diverged, and so is out
        return _result(task, steps=task.until or 0, total_steps=0, value=None)
    best = task.recipe["selection"]["keep"] == "best"
    value = rung_value(tried.validations, search.measure, tried.steps, best=best)
    return _result(
        task,
        steps=tried.steps,
        total_steps=tried.total_steps,
        value=value if math.isfinite(value) else None,
        curve=tried.validations,
        ledger=tried.ledger,
        folder=str(tried.folder),
    )


# ---- how many updates an arm gets -------------------------------------------------------------


def _priced(loaded: LoadedStudy, board: Board, task: Task) -> Result:
    """How many updates an arm can make for an amount; of the control alone what it spends."""
    currency = loaded.study.equal.by
    folder = board.run_folder(task.key)
    if task.role == "pilot":
        ledger, count, once, amount = pilot(task, folder)
        updates = _at_least_one(task, count, once, amount)
    else:
        ledger = price(task.recipe, folder)
        updates = ledger.updates
        if task.amount is not None:
            updates, ledger = _by_price(task, folder, ledger, currency)
    remove_directory(folder)
    return _result(task, steps=0, total_steps=ledger.updates, value=float(updates), ledger=ledger)


def _by_price(task: Task, folder: Path, ledger: Ledger, currency: str) -> tuple[int, Ledger]:
    """The number of updates whose plan costs the amount, to a part in some hundreds."""
    amount = float(task.amount or 0.0)
    once = 0.0
    if currency == "flops":
        once = sum(ledger.flops.get(name, 0.0) for name in ("difficulty", "texts"))
    for _ in range(_ROUNDS):
        spent = ledger.amount(currency)
        if abs(spent / amount - 1) < _CLOSE:
            break
        each = (spent - once) / ledger.updates
        updates = _at_least_one(task, (amount - once) / max(each, 1e-9), once, amount)
        if updates == ledger.updates:
            break
        recipe = {**task.recipe}
        recipe["curriculum"] = {**recipe["curriculum"], "total_steps": updates}
        ledger = price(recipe, folder)
    return ledger.updates, ledger


def _at_least_one(task: Task, updates: float, once: float, amount: float) -> int:
    if updates < 1:
        raise ConfigError(
            f"'{task.cell.trial}' would spend {once:.3g} on what comes before training (difficulty,"
            f" texts), and may spend {amount:.3g} in all: nothing is left for updates. Give"
            " the study more in equal.updates, or leave the arm out."
        )
    return max(1, round(updates))


# ---- final runs -----------------------------------------------------------------------------


def final_result(task: Task, tried: Tried) -> Result:
    """What a finished run scored, example by example."""
    run = load_run(tried.folder)
    arm = run.main
    assert arm is not None and arm.evaluation is not None
    scores = {}
    places = tried.folder / "arms" / tried.arm
    suites = list(run.info.get("suites") or ["test"])
    for place, suite in enumerate(suites):
        evaluated = load_evaluation(places / f"evaluation{f'-{suite}' if place else ''}")
        if evaluated is not None:
            scores |= {f"{suite}:{metric}": one for metric, one in _scores(evaluated).items()}
    return _result(
        task,
        steps=tried.steps,
        total_steps=tried.total_steps,
        scores=scores,
        references=_references(run, suites[0]),
        agreement=dict(arm.evaluation.agreement),
        curve=_curve(tried, arm.metrics),
        ledger=tried.ledger,
        folder=str(tried.folder),
    )


def _scores(evaluated: Evaluated) -> dict[str, Scores]:
    """Each metric that has a value for each answer."""
    found = {}
    clusters = clusters_of(evaluated.answers)
    for metric in evaluated.scores:
        values = values_of(evaluated.answers, metric)
        if values:
            ids = list(values)
            found[metric] = Scores(
                ids=ids,
                values=[values[i] for i in ids],
                clusters=[clusters.get(i, "") for i in ids],
                groups=[str(evaluated.answers[i].get("group") or "") for i in ids],
            )
    return found


def _references(run: RunRead, suite: str) -> dict[str, dict[str, float]]:
    found = {}
    for name, evaluated in (("teacher", run.teacher), ("student_before", run.student_before)):
        if evaluated is not None:
            found[name] = {f"{suite}:{m}": one["mean"] for m, one in evaluated.scores.items()}
    return found


def _curve(tried: Tried, metrics: Any) -> list[dict[str, float]]:
    """The validations with the seconds of training at each, taken from the records around it."""
    steps = [row["step"] for row in metrics if "seconds" in row]
    seconds = [row["seconds"] for row in metrics if "seconds" in row]
    found = []
    for row in tried.validations:
        one = {name: value for name, value in row.items() if isinstance(value, int | float)}
        if steps:
            one["seconds"] = _between(row["step"], [0, *steps], [0.0, *seconds])
        found.append(one)
    return found


def _between(step: int, steps: list[int], seconds: list[float]) -> float:
    return float(np.interp(step, steps, seconds))
