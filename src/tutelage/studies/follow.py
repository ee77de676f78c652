"""Following a study by what its workers leave in its folder, wherever they are."""

import time
from collections.abc import Callable

from tutelage.studies.lines import Event, done_event
from tutelage.studies.watch import StudyState, Watch

_PAUSE = 2.0
"""Seconds between two looks at the folder."""


def follow(
    watch: Watch,
    told: Callable[[Event], None],
    *,
    working: Callable[[], bool] = lambda: True,
    deadline: float | None = None,
) -> bool:
    """Tell what the workers of a study do, until nothing is left that anybody could do.

    Args:
        watch: looks at the study; what is there at first is not told.
        told: called with each event.
        working: whether there is somebody to wait for.
        deadline: ``time.time()`` after which it is not followed any longer.

    Returns:
        Whether nothing is left to do, or time is up; False when nobody works any more.
    """
    before = watch.look()
    while True:
        somebody = working()  # before the look: who has just ended has left its last result
        state = watch.look()
        for event in _news(before, state, watch):
            told(event)
        before = state
        over = all(task.result in state.failures for task in state.due.ready)
        if over or (deadline is not None and time.time() > deadline):
            return True
        if not somebody:
            return False
        time.sleep(_PAUSE)


def _news(before: StudyState, now: StudyState, watch: Watch) -> list[Event]:
    """What was done and what failed between two looks."""
    done: list[Event] = [
        done_event(watch.tasks[name], now.results[name])
        for name in now.due.wanted
        if name in now.results and name not in before.results
    ]
    failed = [name for name in now.failures if name not in before.failures]
    return done + [{"event": "failed", "name": name, **now.failures[name]} for name in failed]
