"""Ctrl-C and SIGTERM end a command, whatever it is doing, with one line.

An exception is how a running program is stopped from a signal, and libraries lose it: raised inside
an object's ``__del__``, a callback from C or an import that catches everything, it is gone and the
program goes on. So it is raised again until the command has ended.
"""

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

_AGAIN = 0.5
"""Seconds after which it is raised again."""


class Interrupted(BaseException):
    """A signal asked the command to end; no ``except Exception`` may catch it.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise ``Interrupted`` in the block at SIGINT or SIGTERM, again and again until it ends."""
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
        raise Interrupted(number)

    def again(number: int, frame: FrameType | None) -> None:
        raise Interrupted(asked[0])

    def unraisable(found: Any) -> None:
        if not isinstance(found.exc_value, Interrupted):
            sys.__unraisablehook__(found)

    before = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGALRM, again),
            (signal.SIGINT, stop),
            (signal.SIGTERM, stop),
        )
    }
    hook, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked:  # lost at the very end
        raise Interrupted(asked[0])
