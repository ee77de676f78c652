"""Text of users on its way to a terminal.

Groups, ids, names and messages may hold anything, and what a terminal takes for a command moves the
cursor, changes the title or hides what follows. Whatever is printed passes through here.
"""

import re
from typing import Any

# Control characters but tab and newline, and those that turn the direction of writing round.
_COMMANDS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""The text with every character that a terminal may obey written out, as in ``\x1b``."""
    return _COMMANDS.sub(lambda match: ascii(match.group())[1:-1], text)


class Printable:
    """A ``rich`` renderable whose texts are printable; colours and boxes stay what they are."""

    def __init__(self, renderable: Any) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Any, options: Any) -> Any:
        """Render, then write out what is left of commands."""
        from rich.segment import Segment

        for segment in console.render(self._renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)
