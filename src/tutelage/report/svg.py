"""From drawings to pictures: SVG that sits inside a page and takes its colours, PNG on white.

Drawings use one light palette. In the SVG every palette colour becomes a CSS variable with that
colour as its default and the ink becomes ``currentColor``, so the page decides how they look in the
dark.
Nothing here depends on the date, on chance, or on matplotlib's global state.
"""

import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure, FigureBase

from tutelage.files import atomic_write_bytes
from tutelage.printing import printable

INK = "#1f2328"
# Okabe and Ito's colours, with yellow, orange and pink darkened until they reach 3:1 on white.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#b0558b", "#8a6d00", "#3d8fb8")
# Their counterparts on a dark page, for the page's style sheet.
SERIES_DARK = ("#56a9e8", "#f28c4f", "#35c79a", "#e29ac6", "#e0c341", "#a6d8f2")

PANEL_WIDTH = 390.0
PANEL_HEIGHT = 265.0

_SETTINGS: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 11,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name with dollars is a name
    "svg.hashsalt": "tutelage",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 10.5,
    "ytick.color": INK,
    "ytick.labelsize": 10.5,
}


@dataclass(frozen=True)
class Panel:
    """One drawing.

    Attributes:
        name: short name, unique within its picture; part of the ids in the SVG.
        alt: what a reader who cannot see the drawing should know, in a sentence or two.
        draw: puts axes on the figure that it is given.
        height: in points; the width is the same for all panels.
    """

    name: str
    alt: str
    draw: Callable[[FigureBase], None]
    height: float = PANEL_HEIGHT


@dataclass(frozen=True)
class Picture:
    """Panels that belong together.

    Attributes:
        name: short name, unique on a page; part of the ids in the SVG.
        caption: what the picture shows and how to read it.
        panels: the drawings, at least one.
    """

    name: str
    caption: str
    panels: tuple[Panel, ...]

    def svgs(self) -> tuple[str, ...]:
        """One ``<svg>`` element for each panel, to be put inside an HTML page.

        It has no XML head and no namespace (an HTML parser adds it), loads nothing, carries its
        alternative text, and its ids start with the names of the picture and of the panel.
        """
        return tuple(self._svg(panel) for panel in self.panels)

    def _svg(self, panel: Panel) -> str:
        with matplotlib.rc_context(_SETTINGS):
            figure = Figure(figsize=(PANEL_WIDTH / 72, panel.height / 72), layout="constrained")
            panel.draw(figure)
            buffer = io.BytesIO()
            empty = {"Date": None, "Creator": None, "Format": None, "Type": None}
            figure.savefig(buffer, format="svg", transparent=True, metadata=empty)
        return inline_svg(buffer.getvalue().decode("utf-8"), f"{self.name}-{panel.name}", panel.alt)

    def png(self, *, columns: int = 2, dpi: int = 144) -> bytes:
        """All panels on one white PNG image, ``columns`` beside each other."""
        return self._image("png", columns, dpi, {"Software": None})

    def svg(self, *, columns: int = 2) -> str:
        """All panels on one white SVG image, a file of its own for pages in light and in dark."""
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        text = self._image("svg", columns, 72, nothing).decode("utf-8")
        return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"

    def _image(self, form: str, columns: int, dpi: int, metadata: dict[str, Any]) -> bytes:
        columns = min(columns, len(self.panels))
        rows = [self.panels[i : i + columns] for i in range(0, len(self.panels), columns)]
        heights = [max(panel.height for panel in row) for row in rows]
        size = (columns * PANEL_WIDTH / 72, sum(heights) / 72)
        with matplotlib.rc_context(_SETTINGS):
            figure = Figure(figsize=size, dpi=dpi, facecolor="white")
            figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.1)
            grid = figure.subfigures(len(rows), columns, squeeze=False, height_ratios=heights)
            for i, row in enumerate(rows):
                for j, panel in enumerate(row):
                    panel.draw(grid[i, j])
            buffer = io.BytesIO()
            figure.savefig(buffer, format=form, metadata=metadata)
        return buffer.getvalue()

    def save_png(self, path: str | Path, *, columns: int = 2, dpi: int = 144) -> Path:
        """Write ``png()`` to ``path``, wholly or not at all, and return the path."""
        atomic_write_bytes(path, self.png(columns=columns, dpi=dpi))
        return Path(path)


def inline_svg(document: str, prefix: str, alt: str) -> str:
    """Make matplotlib's SVG document an element of an HTML page.

    Args:
        document: the whole SVG file.
        prefix: what every id starts with, so that several drawings on a page do not clash.
        alt: alternative text; becomes the element's accessible name.

    Returns:
        An ``<svg>`` element that scales to its box and takes its colours from the page.
    """
    head, body = document[document.index("<svg") :].split(">", 1)
    view_box = re.findall(r'viewBox="([^"]*)"', head)[0]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # This rule is for all elements, and inside a page that means the page's too.
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href=", "href=")
    body = _unique_ids(body, prefix)
    body = _shorter(body)
    body = printable(_page_colours(body))
    body = re.sub(r"'DejaVu Sans'(, ?'[^']*')*(, ?sans-serif)?", "system-ui, sans-serif", body)
    label = html.escape(printable(alt), quote=True)
    return (
        f'<svg viewBox="{view_box}" role="img" aria-label="{label}" stroke-linejoin="round">{body}'
    )


def _unique_ids(body: str, prefix: str) -> str:
    """Keep the ids that something refers to, with the prefix; drop the others."""
    used = set(re.findall(r"url\(#([^)]+)\)", body)) | set(re.findall(r'href="#([^"]+)"', body))
    names = {old: f"{prefix}-{number}" for number, old in enumerate(sorted(used))}

    def rename(match: re.Match[str]) -> str:
        name = names.get(match.group(1))
        return "" if name is None else f' id="{name}"'

    body = re.sub(r' id="([^"]+)"', rename, body)
    body = re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{names[match.group(1)]})", body)
    return re.sub(r'href="#([^"]+)"', lambda match: f'href="#{names[match.group(1)]}"', body)


def _shorter(body: str) -> str:
    """Round coordinates to a hundredth of a point and drop what changes nothing."""

    def rounded(match: re.Match[str]) -> str:
        values = re.sub(
            r"-?\d+\.\d{3,}", lambda m: f"{float(m.group()):.2f}".rstrip("0").rstrip("."), match[2]
        )
        return f' {match[1]}="{" ".join(values.split())}"'

    body = re.sub(r' (d|x|y)="([^"]*)"', rounded, body)
    body = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", body)
    return re.sub(r">\s+<", "><", body).strip()


def _page_colours(body: str) -> str:
    """Let the page choose ink and series colours; the light palette is the default."""
    body = body.replace(INK, "currentColor")
    for number, colour in enumerate(SERIES, start=1):
        body = body.replace(colour, f"var(--series-{number}, {colour})")
    return body
