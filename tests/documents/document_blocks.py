"""The blocks of README and docs: what is in them, and what is said of those that cannot be run."""

import re
import shlex
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(
    r"(?:^<!-- not run: (?P<why>.*?) -->\n+)?^(?P<indent> *)```(?P<language>\w*)[^\n]*\n"
    r"(?P<text>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
PROMPT = re.compile(r"^(\w+)?\$ ")


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
        page: its file.
        line: of the fence.
        language: after the fence.
        text: without the fence.
        why: why it is not run; None where it is.
    """

    page: Path
    line: int
    language: str
    text: str
    why: str | None

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def name(self) -> str | None:
        """The file that a block of YAML says it is, in a comment on its first line."""
        found = re.match(r"# ([\w./-]+\.yaml)\b", self.text)
        return found[1] if found else None

    def commands(self) -> list[list[str]]:
        """The command lines of a block: all of ``bash``, those with a prompt of ``console``."""
        text = re.sub(r" *\\\n\s*", " ", self.text)
        lines = text.splitlines()
        if self.language == "console":
            lines = [PROMPT.sub("", line) for line in lines if PROMPT.match(line)]
        words = [shlex.split(line, comments=True) for line in lines]
        return [line for line in words if line]


def blocks_of(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in these languages (all of them when none is named), in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        line = text[: match.start("language")].count("\n") + 1
        inside = textwrap.dedent(match["text"])
        block = Block(page, line, match["language"], inside, match["why"])
        if not languages or block.language in languages:
            found.append(block)
    return found
