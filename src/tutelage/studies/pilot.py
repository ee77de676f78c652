"""How many updates take as long as the control's: two short runs, one just after the other.

What else a machine does, and how many workers it has, then counts for both. A run that starts takes
seconds that no update takes again, so an update's are those between records, the first left out.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.files import read_jsonl, remove_directory
from tutelage.pipeline.trial import try_out
from tutelage.studies.due import Task
from tutelage.studies.leftovers import drop_students
from tutelage.types import Ledger

_LEFT_OUT = 2
"""First updates, which are slower than the others."""


def pilot(task: Task, folder: Path) -> tuple[Ledger, float, float, float]:
    """Carry out a pilot.

    Args:
        task: with the control's recipe beside its own.
        folder: for both runs; whoever asked removes it.

    Returns:
        What its own run spent; the updates that take as long as the control's; seconds that it
        spends once; and seconds that it may spend in all.
    """
    assert task.amount is not None and task.beside is not None
    remove_directory(folder)  # of one that was cut off
    their_once, their_each, _ = timed(task.beside, folder / "control")
    once, each, ledger = timed(task.recipe, folder / "own")
    amount = their_once + their_each * task.amount
    return ledger, (amount - once) / max(each, 1e-9), once, amount


def timed(
    recipe: Mapping[str, Any], folder: Path, until: int | None = None
) -> tuple[float, float, Ledger]:
    """Seconds of what comes once and of each update, and all that was spent.

    Args:
        recipe: what is run, with a student of a seed of its own.
        folder: of the run.
        until: stop after this update; None for the end of the plan.
    """
    # A student that is in the cache was timed when the machine did something else.
    seeds = {**recipe.get("seeds", {}), "student": time.time_ns() % (1 << 31)}
    records = {**recipe["training"], "log_every": 1}
    told = {**recipe, "seeds": seeds, "training": records}
    tried = try_out(told, folder, until=until)
    rows = read_jsonl(tried.folder / "arms" / tried.arm / "metrics.jsonl")
    drop_students(tried)
    ledger = tried.ledger
    each = seconds_of_update([row["seconds"] for row in rows])
    return ledger.amount("seconds") - each * ledger.updates, each, ledger


def seconds_of_update(ends: list[float]) -> float:
    """Mean seconds of an update.

    Args:
        ends: seconds at the end of each, from the first on.
    """
    first = min(_LEFT_OUT, len(ends) - 1)
    if first < 1:
        return ends[-1] / len(ends)
    return (ends[-1] - ends[first - 1]) / (len(ends) - first)
