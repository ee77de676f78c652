"""A verifier of mathematical answers: expressions are compared by what they mean."""

import atexit
import functools
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.errors import MissingDependencyError
from tutelage.verifiers.text import check_references, spoken

LONGEST = 4000
"""Characters of a text that are looked at: the last ones, where the answer is."""

WORKER = Path(__file__).with_name("mathematics_worker.py")
PATIENCE = 120.0
"""Seconds of the clock after which a comparison is given up, on however busy a machine."""


def math(answer: str, references: Sequence[str]) -> float:
    r"""Whether the answer means the same as a reference, as mathematics.

    ``\frac{1}{2}`` equals ``0.5``, ``\sqrt{12}`` equals ``2\sqrt{3}``, ``x+1`` equals ``1+x``;
    ``2\sqrt3`` does not equal ``5\sqrt3``, nor ``x^2+1`` ``y^2+1``. Of an answer the last boxed
    expression counts, else what is announced as the answer, else the last expression. References
    may be bare LaTeX (``\frac{1}{2}``), text with delimiters, or solutions that end in ``\boxed``
    or ``#### 42``. Numbers are equal up to rounding in the sixth decimal. Thoughts between
    ``<think>`` and ``</think>`` are passed over.

    Comparisons run in a process of their own with limits on time and memory, so any thread may
    ask, and no answer can hang or fill the caller; what cannot be decided in time is wrong.

    Args:
        answer: what a model wrote; its last 4,000 characters are looked at.
        references: accepted answers, at least one.

    Returns:
        1.0 or 0.0; an answer without mathematics is wrong.

    Raises:
        DataError: there is no reference.
        MissingDependencyError: the package math-verify is not installed.
    """
    check_references(references)
    if importlib.util.find_spec("math_verify") is None:
        raise MissingDependencyError(
            "The verifier 'math' needs the package math-verify. Install it with:"
            " pip install 'tutelage[math]'"
        )
    answer = spoken(answer)
    if not answer.strip():
        return 0.0
    return float(_solves(answer[-LONGEST:], tuple(one[-LONGEST:] for one in references)))


@functools.lru_cache(maxsize=4096)
def _solves(answer: str, references: tuple[str, ...]) -> bool:
    return _ASKED.ask(json.dumps([answer, references]))


class _Worker:
    """The process that compares, one question at a time; started when it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: Any = None
        self._owner = 0

    def ask(self, question: str) -> bool:
        """The answer to a question; False when the process ended over it."""
        with self._lock:
            # After a fork the pipes still belong to the parent.
            if self._owner != os.getpid() or self._process is None or self._process.poll():
                self._start()
            try:
                return json.loads(self._exchange(question))
            except (OSError, ValueError):
                self.stop()
                return False

    def _start(self) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        if self._line() != "ready\n":
            self.stop()
            raise MissingDependencyError(
                "The package math-verify is installed and does not start. Try it with `python -c"
                " 'import math_verify'`, and install it again: pip install 'tutelage[math]'"
            )

    def _exchange(self, question: str) -> str:
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        """The next line of the process; it is ended when it says nothing for long."""
        alarm = threading.Timer(PATIENCE, self._process.kill)
        alarm.start()
        try:
            return self._process.stdout.readline()
        finally:
            alarm.cancel()

    def stop(self) -> None:
        """End the process, if there is one and it is ours."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()


_ASKED = _Worker()
atexit.register(_ASKED.stop)
