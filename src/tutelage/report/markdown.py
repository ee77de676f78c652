"""What users wrote, put into Markdown so that it stays text."""

import html
import re
from typing import Any

from tutelage.printing import printable


def markdown_text(value: Any) -> str:
    """Text on one line: no HTML, no link, no emphasis, no cell and no heading comes of it."""
    line = " ".join(printable(str(value)).split())
    escaped = html.escape(line, quote=False)
    return re.sub(r"([\\`*\[\]#!|~]|(?<!\w)_|_(?!\w))", r"\\\1", escaped)


def markdown_code(value: Any) -> str:
    """Code within a line."""
    line = " ".join(printable(str(value)).split()).replace("|", "\\|")
    ticks = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if "`" in line else ""
    return f"{ticks}{space}{line}{space}{ticks}"


def markdown_fence(value: Any, language: str = "") -> str:
    """A block of code."""
    text = printable(str(value))
    ticks = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{ticks}{language}\n{text}\n{ticks}"
