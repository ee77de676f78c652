"""A worker of a study: takes what is due and free, until nothing is; a process of its own.

Any number of them may work on one folder, on one machine or on several that share it: a run is
claimed by a lock on a file, which goes with the process that holds it.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tutelage.errors import TutelageError
from tutelage.studies.board import Board
from tutelage.studies.due import Task
from tutelage.studies.lines import Event, done_event, facts_of
from tutelage.studies.load import LoadedStudy, load_study
from tutelage.studies.results import Result
from tutelage.studies.tasks import Planner

_PAUSE = 1.0
"""Seconds between two looks at what others do."""

Tell = Callable[[Event], None]


def work(
    loaded: LoadedStudy, *, tell: Tell, deadline: float | None = None, most: int | None = None
) -> None:
    """Carry out what is due in a study, one task after another.

    Args:
        loaded: the study.
        tell: called with what happens: ``event`` is start, done, failed, waiting when others are
            at all that is due, or note, with a text.
        deadline: ``time.time()`` after which nothing new is begun.
        most: how many tasks at most.
    """
    # Imported late: what asks what is due needs no torch.
    from tutelage.pipeline.context.precision import slow_precision
    from tutelage.recipe import load_recipe
    from tutelage.studies.carry import carry_out

    recipes = (load_recipe(loaded.recipe(cell, {})).recipe for cell in loaded.cells)
    if slow := slow_precision(recipes):
        tell({"event": "note", "text": slow})
    board, planner = Board(loaded.folder), Planner(loaded)
    done, waits = 0, False
    while deadline is None or time.time() < deadline:
        results = board.results()
        due = planner.due(results)
        for key in due.losers:
            board.drop_run(key)
        failures = board.failures()
        ready = [task for task in due.ready if task.result not in failures]
        if not ready:
            return
        if not _one(board, ready, lambda task: carry_out(loaded, board, task), tell):
            if not waits:
                tell({"event": "waiting"})
            waits = True
            time.sleep(_PAUSE * (0.5 + random.random()))
            continue
        done, waits = done + 1, False
        if most is not None and done >= most:
            return


def _one(board: Board, ready: list[Task], carry_out: Callable[[Task], Result], tell: Tell) -> bool:
    """Do the first task that nobody is at; whether there was one."""
    for task in ready:
        with board.claim(task.key) as mine:
            if not mine:
                continue
            if board.has(task.result):
                return True  # somebody has just done it
            _carry(board, task, carry_out, tell)
            return True
    return False


def _carry(board: Board, task: Task, carry_out: Callable[[Task], Result], tell: Tell) -> None:
    began = time.monotonic()
    tell({"event": "start", **facts_of(task)})
    try:
        result = carry_out(task)
    except TutelageError as error:
        board.fail(task.result, task.title, str(error))
        tell({"event": "failed", **facts_of(task), "why": str(error)})
        return
    result = replace(result, took=round(time.monotonic() - began, 1))
    board.write(task.result, result)
    tell(done_event(task, result))


def main() -> None:
    """``python -m tutelage.studies.worker STUDY [OVERRIDES] [DEADLINE]``: events as JSON lines."""
    from tutelage.interrupts import Interrupted, interruptible

    source, overrides, deadline = (*sys.argv[1:4], "", "")[:3]

    def tell(event: Event) -> None:
        print(json.dumps(event), flush=True)

    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with interruptible():
            work(
                load_study(Path(source), json.loads(overrides or "{}")),
                tell=tell,
                deadline=float(deadline) if deadline else None,
            )
    except TutelageError as error:
        tell({"event": "error", "why": str(error)})
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt):
        sys.exit(130)


def _end_with_parent() -> None:
    """Wait until the process that started this one has gone, and end then too."""
    while os.read(0, 1024):  # nobody writes; not by sys.stdin, whose lock Python wants at its end
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
