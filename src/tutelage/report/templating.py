"""HTML pages from templates, in which what users wrote stays text."""

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tutelage.printing import printable
from tutelage.report.svg import SERIES_DARK


def render(template: str, /, **values: Any) -> str:
    """A page as text.

    Args:
        template: its name.
        values: all that it shows; every text is escaped.
    """
    page = _environment().get_template(template).render(series_dark=SERIES_DARK, **values)
    return page.lstrip()


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
