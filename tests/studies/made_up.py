"""A study whose runs cost nothing: results come from a formula, in this process or in others."""

import os
import sys
import time
import types
from pathlib import Path

from tutelage.studies.results import Result, Scores
from tutelage.types import Ledger

STUDY = {
    "name": "small",
    "base": "embedded_cpd",
    "set": {"curriculum": {"stages": 5}},
    "arms": {"kld": {"extends": "kld"}, "sft": {"extends": "sft"}},
    "equal": {"updates": 10},
    "seeds": 3,
}


def made_up(task, **found):
    """What a run comes to: the same whoever makes it."""
    scores = Scores(
        ids=["a", "b"],
        values=[1.0, float(task.seeds["student"])],
        clusters=["", ""],
        groups=["", ""],
    )
    given = {
        "key": task.key,
        "role": task.role,
        "cell": task.cell.name,
        "arm": task.cell.arm,
        "levels": {},
        "tuned": {level.factor: level.label for level in task.cell.tuned},
        "seeds": task.seeds,
        "steps": task.until or 10,
        "total_steps": 10,
        "scores": {"test:exact_match": scores} if task.role == "final" else {},
        "ledger": Ledger(10, 100, {"training": 1e9}, {"training": 2.0}),
    }
    return Result(**{**given, **found})


def carry_out(loaded, board, task):
    """In place of the real one in worker processes: notes who did what, and may be made to wait.

    The folder of notes has a file for each task that was begun, with the process in it; while there
    is a file ``hold`` in it, the first task of a process does not end.
    """
    notes = Path(os.environ["MADE_UP_NOTES"])
    with (notes / f"{task.result}.begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    while (notes / "hold").exists():
        time.sleep(0.02)
    return made_up(task)


def instead_of_runs():
    """Let workers of this process carry out made-up tasks, without importing torch."""
    module = types.ModuleType("tutelage.studies.carry")
    module.carry_out = carry_out
    sys.modules[module.__name__] = module
