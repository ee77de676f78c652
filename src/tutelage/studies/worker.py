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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tutelage.errors import TutelageError
from tutelage.studies.board import Board
from tutelage.studies.load import LoadedStudy, load_study
from tutelage.studies.results import Result
from tutelage.studies.tasks import Planner, Task

_PAUSE = 1.0
"""Seconds between two looks at what others do."""

Tell = Callable[[Mapping[str, Any]], None]


def work(
    loaded: LoadedStudy, *, tell: Tell, deadline: float | None = None, most: int | None = None
) -> None:
    """Carry out what is due in a study, one task after another.

    Args:
        loaded: the study.
        tell: called with what happens: ``event`` is start, done or failed.
        deadline: ``time.time()`` after which nothing new is begun.
        most: how many tasks at most.
    """
    # Imported late: what asks what is due needs no torch.
    from tutelage.studies.carry import carry_out

    board, planner = Board(loaded.folder), Planner(loaded)
    done = 0
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
            time.sleep(_PAUSE * (0.5 + random.random()))
            continue
        done += 1
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
    facts = {"name": task.result, "title": task.title, "role": task.role}
    began = time.time()
    tell({"event": "start", **facts})
    try:
        result = carry_out(task)
    except TutelageError as error:
        board.fail(task.result, task.title, str(error))
        tell({"event": "failed", **facts, "why": str(error)})
        return
    board.write(task.result, result)
    value = result.value
    if result.scores:
        name, scores = next(iter(result.scores.items()))
        value = scores.mean
        facts["measure"] = name
    tell({"event": "done", **facts, "value": value, "seconds": round(time.time() - began, 1)})


def main() -> None:
    """``python -m tutelage.studies.worker STUDY [OVERRIDES] [DEADLINE]``: events as JSON lines."""
    from tutelage.interrupts import Interrupted, interruptible

    source, overrides, deadline = (*sys.argv[1:4], "", "")[:3]

    def tell(event: Mapping[str, Any]) -> None:
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
