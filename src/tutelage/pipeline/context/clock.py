"""Who pays how much time: seconds of each stage, over every process that worked on a run."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tutelage.proofs import read_sealed, write_sealed

FILE = "seconds.json"
_BEAT = 1.0


class Clock:
    """Charges time to stages and keeps the sums in ``seconds.json``.

    A stage inside another is charged alone. While a stage runs, the file says which and since when,
    and its own time of change moves on as the work does (:meth:`beat`): so the next process charges
    what one that was killed had spent, to about a second. Both are told by the clock as it was when
    the record was written, and go on by one that nobody sets.

    Args:
        folder: the run folder.
        keeps: whether this process keeps the record; only the first of several does.
        tell: called with a line when the record is damaged: no result depends on it, and times are
            counted from nothing then.

    Attributes:
        seconds: what was charged to each stage.
        started: when the first process began to work on the run.
        worked: whether this process has charged anything.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keeps: bool = True,
        tell: Callable[[str], Any] = lambda text: None,
    ) -> None:
        self._path = folder / FILE
        self._keeps = keeps
        self._stages: list[str] = []
        self._since = self._beaten = time.monotonic()
        self._written = (time.time(), time.monotonic())
        self.seconds: dict[str, float] = {}
        self.worked = False
        record = read_sealed(self._path)
        if record is None and self._path.exists():
            tell(f"'{self._path}' is damaged: what the stages took so far is not known any more")
        record = record or {}
        self.started: str = record.get("started") or time.strftime("%Y-%m-%d %H:%M:%S %z")
        self.seconds.update(record.get("seconds") or {})
        self._taken: dict[str, Any] = record.get("taken") or {}
        running = record.get("running")
        if running:
            self._add(running["stage"], self._path.stat().st_mtime - running["since"])

    @contextlib.contextmanager
    def charge(self, stage: str) -> Iterator[None]:
        """Charge the time of the block to a stage, however the block ends."""
        self.worked = True
        self._turn()
        self._stages.append(stage)
        self._write()
        try:
            yield
        finally:
            self._turn()
            self._stages.pop()
            self._write()

    def spent(self) -> float:
        """Seconds charged so far to the stage that runs, by this process and those before it."""
        return self.seconds.get(self._stages[-1], 0.0) + time.monotonic() - self._since

    def add(self, stage: str, seconds: float, what: str) -> None:
        """Charge what was spent elsewhere on something that this run takes; once, if asked again.

        Args:
            stage: whom to charge.
            seconds: how long making it took.
            what: is taken.
        """
        if self._taken.get(what) != [stage, seconds]:
            self._taken[what] = [stage, seconds]
            self._add(stage, seconds)
            self._write()

    def owe(self, stage: str, seconds: float, what: str) -> None:
        """Charge what was spent on something that grows, as far as it is not charged yet.

        Args:
            stage: whom to charge.
            seconds: how long making it has taken so far, whoever did it.
            what: is taken.
        """
        before = self._taken.get(what)
        paid = before[1] if before is not None and before[0] == stage else 0.0
        if seconds > paid:
            self._taken[what] = [stage, seconds]
            self._add(stage, seconds - paid)
            self._write()

    def made(self, what: str, stage: str, seconds: float) -> None:
        """Note what making a thing took that will be found as one to take: it is charged.

        Said of something that grows before it is made on, too: see :meth:`unnoted`.
        """
        self._taken.pop(what, None)
        self._taken[what] = [stage, seconds]
        self._write()

    def unnoted(self, stage: str) -> tuple[str, float]:
        """What was made last in a stage, and how long, if all that is noted of nothing was for it.

        So a process that was stopped at making it is heard of.
        """
        noted = {what: taken[1] for what, taken in self._taken.items() if taken[0] == stage}
        last = next(reversed(noted), "")
        rest = self.seconds.get(stage, 0.0) - sum(noted.values())
        return last, noted.get(last, 0.0) + rest

    def forget(self, stage: str) -> None:
        """Begin a stage at nothing: what it had made is made anew, from something else."""
        if self.seconds.pop(stage, None) is not None:
            self._taken = {k: taken for k, taken in self._taken.items() if taken[0] != stage}
            self._write()

    def beat(self) -> None:
        """Say that work goes on."""
        now = time.monotonic()
        if self._keeps and self._stages and now - self._beaten >= _BEAT:
            self._beaten = now
            self._stamp()

    def _stamp(self) -> None:
        """Let the file be as old as it is by a clock that is not set meanwhile."""
        written, then = self._written
        now = written + time.monotonic() - then
        with contextlib.suppress(OSError):  # a record of time is no reason to stop
            os.utime(self._path, (now, now))

    def _turn(self) -> None:
        """Charge the stage that runs up to now."""
        now = time.monotonic()
        if self._stages:
            self._add(self._stages[-1], now - self._since)
        self._since = now

    def _add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + max(seconds, 0.0), 3)

    def _write(self) -> None:
        if not self._keeps:
            return
        self._written = (time.time(), time.monotonic())
        since = self._written[0]
        running = {"stage": self._stages[-1], "since": since} if self._stages else None
        times = {"started": self.started, "seconds": self.seconds, "taken": self._taken}
        write_sealed(self._path, {**times, "running": running})
        self._stamp()
