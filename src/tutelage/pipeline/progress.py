"""What a person sees while a run goes on: what is done, how far it is, when it will end.

On a terminal there is a bar; in a pipe or a log there is a line at the start, one now and then,
and one at the end; with ``quiet`` there is nothing.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Report = Callable[[int, int], None]
"""Called with how much is done and how much there is."""

_LOG_EVERY = 15.0


def quiet_libraries() -> None:
    """Silence the progress bars of datasets and transformers, which would mix with ours.

    What matters of their warnings is an error here.
    """
    import datasets
    from transformers.utils import logging

    datasets.disable_progress_bars()
    logging.set_verbosity_error()
    logging.disable_progress_bar()


class Display:
    """Shows progress on standard error.

    Args:
        quiet: show nothing; None shows nothing but on a terminal or in a notebook.
        console: where to; standard error when left out.
    """

    def __init__(self, quiet: bool | None = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        seen = self.console.is_terminal or self.console.is_jupyter
        self.quiet = not seen if quiet is None else quiet

    def note(self, text: str) -> None:
        """Print a line that stays."""
        if not self.quiet:
            self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def task(self, title: str) -> Iterator[Report]:
        """Show a piece of work; yields the function that reports how far it is."""
        if self.quiet:
            yield lambda done, total: None
        elif self.console.is_terminal:
            with self._bar(title) as report:
                yield report
        else:
            with self._lines(title) as report:
                yield report

    @contextlib.contextmanager
    def _bar(self, title: str) -> Iterator[Report]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            task = progress.add_task(title, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    @contextlib.contextmanager
    def _lines(self, title: str) -> Iterator[Report]:
        started = last = time.monotonic()
        self.note(f"{title} ...")

        def report(done: int, total: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < _LOG_EVERY or not done:
                return
            last = now
            left = (now - started) * (total - done) / done
            self.note(f"{title}: {done:,} of {total:,}, {_duration(left)} left")

        yield report
        self.note(f"{title}: done in {_duration(time.monotonic() - started)}")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 100 else f"{minutes / 60:.1f} h"
