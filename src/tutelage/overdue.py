"""Work of others' code that takes far too long is stopped, in whatever thread it runs."""

import contextlib
import ctypes
import os
import threading
import time
from collections.abc import Iterator

from tutelage.errors import ModelError

_MOST = 20.0
"""Seconds of processor time for one conversation; usual ones take a thousandth."""
_LOOKS = 1.0
_lock = threading.Lock()
_running: dict[int, float] = {}
"""By thread, the processor time that it had used when it began the conversation it is at."""
_stopped: set[int] = set()
_watching = False
"""Whether a thread watches."""


def _forget() -> None:
    """Begin anew in a child: the watching thread is not there, and may have held the lock."""
    global _lock, _watching
    _lock, _watching = threading.Lock(), False
    _running.clear()
    _stopped.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class _TimeIsUpError(BaseException):
    """Raised in the thread that took too long; no ``except Exception`` there may swallow it."""


@contextlib.contextmanager
def watched(whose: str) -> Iterator[None]:
    """Stop a chat template that takes far too long for one conversation.

    Args:
        whose: the conversation, for the message.

    Raises:
        ModelError: time is up.
    """
    thread, arrived = threading.get_ident(), False
    try:
        with _lock:
            _running[thread] = _used(thread)
            _watch()
        try:
            yield
        except _TimeIsUpError:
            arrived = True
            raise
        finally:
            with _lock:
                _running.pop(thread, None)
                late = thread in _stopped and not arrived
                _stopped.discard(thread)
            while late:  # what was raised for this thread must arrive here and not later
                time.sleep(0.001)
    except _TimeIsUpError:
        raise ModelError(
            f"{whose}: the chat template did not end within {_MOST:g} seconds: it loops without"
            " end or nearly so. Mend `chat_template`, or leave the conversation out."
        ) from None


def _used(thread: int) -> float:
    """Seconds of processor time that a thread has used; of the clock where nobody counts them."""
    clock = getattr(time, "pthread_getcpuclockid", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock(thread))


def _watch() -> None:
    """Have a thread that looks at what is running; called with the lock held."""
    global _watching
    if not _watching:
        _watching = True
        threading.Thread(target=_look, daemon=True).start()


def _look() -> None:
    pause = threading.Event()
    while not pause.wait(_LOOKS):
        with _lock:
            for thread, began in _running.items():
                if thread not in _stopped and _used(thread) - began > _MOST:
                    _stopped.add(thread)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread), ctypes.py_object(_TimeIsUpError)
                    )
