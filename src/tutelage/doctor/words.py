"""A diagnosis for a person: one line a finding, and examples in colours or in marks."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.console import Group
from rich.text import Text

from tutelage.doctor.finding import Diagnosis, Finding, Shown

_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}
_PIECES = {"prompt": "dim", "learned": "bold green", "end": "bold reverse"}
_MARKS = {"prompt": ("", ""), "learned": ("[[", "]]"), "end": ("{{", "}}")}
_INDENT = 10
_LONGEST = 1500
"""Letters of an example's prompt that are shown; answers are shown whole, up to four times that."""


def diagnosis_text(diagnosis: Diagnosis, *, colours: bool, all_: bool = True) -> Any:
    """What ``tutelage doctor`` prints, for ``rich``.

    Args:
        diagnosis: what was found.
        colours: whether colours can be seen; else what is learned stands in marks.
        all_: show what is well, too.
    """
    parts: list[Any] = []
    kept = [f for f in diagnosis.findings if all_ or f.level != "ok"]
    for group, findings in groupby(kept, key=lambda f: f.check.partition(".")[0]):
        parts += [Text(group, style="bold"), *map(_Line, findings)]
    for name, why in diagnosis.not_looked_at.items():
        parts.append(Text(f"not looked at: {name}: {why}", style="dim"))
    if diagnosis.examples:
        parts.append(_legend(colours))
        parts += [_example(shown, colours) for shown in diagnosis.examples]
    parts.append(summary_text(diagnosis))
    return Group(*parts)


def summary_text(diagnosis: Diagnosis) -> Text:
    """One line: how many findings there are of each level."""
    counts = diagnosis.counts
    said = ", ".join(f"{counts[level]} {_number(level, counts[level])}"
                     for level in ("error", "warning", "note", "ok"))  # fmt: skip
    worst = "error" if counts["error"] else "warning" if counts["warning"] else "ok"
    return Text(f"{diagnosis.recipe}: {said}", style=_STYLES[worst])


def _number(level: str, count: int) -> str:
    return level if level == "ok" or count == 1 else f"{level}s"


@dataclass(frozen=True)
class _Line:
    """A finding, its lines below each other where one is too narrow."""

    finding: Finding

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Text]:
        """The level, then what was seen, then the way out."""
        level, width = self.finding.level, max(options.max_width - _INDENT, 20)
        begin = f"  {level}".ljust(_INDENT)
        for line in textwrap.wrap(self.finding.saw, width) or [""]:
            yield Text.assemble((begin, _STYLES[level]), line)
            begin = " " * _INDENT
        if self.finding.way_out and level != "ok":
            for line in textwrap.wrap(f"-> {self.finding.way_out}", width):
                yield Text.assemble(begin, (line, "bold"))


def _legend(colours: bool) -> Text:
    if not colours:
        return Text(
            "training examples as the student reads them: [[learned]], {{learned, and generation"
            " stops there}}, the rest is read alone"
        )
    legend = Text("training examples as the student reads them: ", style="bold")
    for kind, words in (
        ("prompt", "read"), ("learned", "learned"), ("end", "learned, and generation stops there"),
    ):  # fmt: skip
        legend.append(words, style=_PIECES[kind]).append("  ")
    return legend


def _example(shown: Shown, colours: bool) -> Text:
    text = Text.assemble((f"{shown.id}: ", "cyan" if colours else ""))
    for piece in shown.pieces:
        said, longest = piece.text, _LONGEST * (1 if piece.kind == "prompt" else 4)
        if len(said) > longest:
            said = f"{said[: longest // 2]} ... {said[-longest // 2 :]}"
        before, after = ("", "") if colours else _MARKS[piece.kind]
        # A line break is learned like any letter, and should be seen.
        said = said.replace("\n", "\\n\n")
        text.append(f"{before}{said}{after}", style=_PIECES[piece.kind] if colours else "")
    return text
