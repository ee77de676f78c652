"""How answers are shown while they are written: one after the other, or side by side."""

import sys
from collections.abc import Callable
from typing import Any, Protocol

from tutelage.printing import Printable, printable

WIDE = 100
"""Columns of a terminal from which on two answers stand side by side."""

_BESIDE_TEXT = 6
"""Lines of a terminal that are not for the answers."""


class Screen(Protocol):
    """Shows the answers to one question, one speaker after the other."""

    def begin(self, title: str) -> None:
        """Somebody begins to answer."""
        ...

    def piece(self, text: str) -> None:
        """A piece of the answer."""
        ...

    def end(self, note: str) -> None:
        """The answer has ended; the note says how, where that is worth a word."""
        ...

    def close(self) -> None:
        """Nobody else answers this question."""
        ...


class Below:
    """One answer below the other, as they are written.

    Args:
        named: say who answers; there is no need where only one does.
    """

    def __init__(self, named: bool) -> None:
        self._named = named

    def begin(self, title: str) -> None:
        """Somebody begins to answer."""
        if self._named:
            _write(f"{title}: ")

    def piece(self, text: str) -> None:
        """A piece of the answer."""
        _write(text)

    def end(self, note: str) -> None:
        """The answer has ended."""
        _write(f" [{note}]\n" if note else "\n")

    def close(self) -> None:
        """Nothing more is shown."""


class Beside:
    """Two answers side by side, both shown while they are written."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._columns: list[tuple[str, str, str]] = []
        self._whole = False
        self._live = Live(
            console=self._console, get_renderable=self._frame, refresh_per_second=10,
            vertical_overflow="crop",
        )  # fmt: skip
        self._live.start()

    def begin(self, title: str) -> None:
        """Somebody begins to answer."""
        self._columns.append((title, "", ""))

    def piece(self, text: str) -> None:
        """A piece of the answer."""
        title, before, note = self._columns[-1]
        self._columns[-1] = (title, before + text, note)

    def end(self, note: str) -> None:
        """The answer has ended."""
        title, text, _ = self._columns[-1]
        self._columns[-1] = (title, text, note)

    def close(self) -> None:
        """Leave the whole answers on the screen."""
        self._whole = True
        self._live.stop()

    def _frame(self) -> Any:
        """Both answers as they are; their ends alone while they are longer than the terminal."""
        from rich.table import Table
        from rich.text import Text

        width = self._console.width // 2 - 2
        room = max(1, self._console.height - _BESIDE_TEXT)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        cells = []
        for title, text, note in self._columns:
            table.add_column(Text(title), width=width)
            shown = Text(printable(text))
            if note:
                shown.append(f" [{note}]", style="dim")
            lines = shown.wrap(self._console, width)
            cells.append(Text("\n").join(lines if self._whole else lines[-room:]))
        if cells:
            table.add_row(*cells)
        return Printable(table)


def screen_for(speakers: int) -> Callable[[], Screen]:
    """What shows the answers of so many speakers on this terminal; made anew for each question."""
    import shutil

    wide = sys.stdout.isatty() and shutil.get_terminal_size().columns >= WIDE
    return Beside if speakers == 2 and wide else lambda: Below(named=speakers > 1)


def _write(text: str) -> None:
    sys.stdout.write(printable(text))
    sys.stdout.flush()
