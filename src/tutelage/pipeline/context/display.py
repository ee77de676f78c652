"""What a person sees while a run goes on: what is done, how far it is, when it will end.

On a terminal there is a bar; in a pipe or a log there is a line at the start, one now and then,
and one at the end; with ``quiet`` there is nothing.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from tutelage.printing import printable
from tutelage.report.quantities import duration


class Report(Protocol):
    """Called with how much is done, how much there is, and what else is worth seeing."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Tell how far the work is."""
        ...


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

    Attributes:
        beat: called whenever a piece of work reports that it goes on.
    """

    def __init__(self, quiet: bool | None = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        seen = self.console.is_terminal or self.console.is_jupyter
        self.quiet = not seen if quiet is None else quiet
        self.beat: Callable[[], None] = lambda: None
        self._shown: _Bar | None = None

    def note(self, text: str) -> None:
        """Print a line that stays."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Print a line that is no mere progress: whoever asked for quiet sees it too."""
        self.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def task(self, title: str) -> Iterator[Report]:
        """Show a piece of work; yields the function that reports how far it is."""
        if self.quiet:
            shown = contextlib.nullcontext(_nothing)
        elif self.console.is_terminal:
            shown = self._bar(title)
        else:
            shown = self._lines(title)
        with shown as show:

            def report(done: int, total: int, note: str = "") -> None:
                self.beat()
                show(done, total, note)

            yield report

    @contextlib.contextmanager
    def _bar(self, title: str) -> Iterator[Report]:
        # Work inside other work is one more line of the same display.
        outer = self._shown
        bar = outer or _Bar(
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1)),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
        )
        with bar if outer is None else contextlib.nullcontext():
            self._shown = bar
            task = bar.add_task(printable(title), total=None)
            begun = False

            def report(done: int, total: int, note: str = "") -> None:
                nonlocal begun
                if not begun:  # what was done before says nothing about the speed
                    bar.reset(task, total=total, completed=done)
                begun = True
                bar.note = printable(note)
                bar.update(task, completed=done, total=total)

            try:
                yield report
            finally:
                self._shown = outer
                bar.note = ""
                if outer is not None:
                    bar.remove_task(task)

    @contextlib.contextmanager
    def _lines(self, title: str) -> Iterator[Report]:
        started = last = time.monotonic()
        first: int | None = None
        self.note(f"{title} ...")

        def report(done: int, total: int, note: str = "") -> None:
            nonlocal last, first
            first = done if first is None else first
            now = time.monotonic()
            if now - last < _LOG_EVERY or done <= first:
                return
            last = now
            left = (now - started) * (total - done) / (done - first)
            more = f"; {note}" if note else ""
            self.note(f"{title}: {done:,} of {total:,}, {duration(left)} left{more}")

        yield report
        self.note(f"{title}: done in {duration(time.monotonic() - started)}")


class _Bar(Progress):
    """A bar with a line below it."""

    note = ""

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bar, and the line when there is one."""
        yield from super().get_renderables()
        if self.note:
            yield Text(f"  {self.note}", style="dim", no_wrap=True, overflow="ellipsis")


def _nothing(done: int, total: int, note: str = "") -> None:
    """Show nothing."""


def size_text(number: float) -> str:
    """A number of bytes for a person."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
