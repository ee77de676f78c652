"""What the doctor says: findings, each with its level, what was seen, and the way out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "error")
"""From nothing at all to what would make a run fail or be in vain."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``error`` where a run would fail or be in vain, ``warning`` where it is likely to be
            worse than it could, ``note`` for what one should know, ``ok`` for what is well.
        saw: what was seen, with its numbers.
        way_out: what to do: a command, or a setting of the recipe; empty where nothing is to do.
        numbers: what was measured, as plain values.
        check: name of the check; filled in by who calls it.
    """

    level: Level
    saw: str
    way_out: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    check: str = ""


@dataclass(frozen=True)
class Piece:
    """A stretch of an example's tokens.

    Attributes:
        text: what they say, special tokens written out.
        kind: ``prompt`` for what is read and not learned, ``learned``, or ``end`` for a learned
            token at which generation stops.
        tokens: how many they are.
    """

    text: str
    kind: Literal["prompt", "learned", "end"]
    tokens: int


@dataclass(frozen=True)
class Shown:
    """A training example as the student reads it.

    Attributes:
        id: of the example.
        pieces: in the order of reading.
    """

    id: str
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Diagnosis:
    """All that the doctor found about a recipe on this machine.

    Attributes:
        recipe: its name.
        findings: in the order of the checks.
        examples: some training examples, token by token.
        not_looked_at: checks that others' errors made impossible, and why.
    """

    recipe: str
    findings: tuple[Finding, ...]
    examples: tuple[Shown, ...] = ()
    not_looked_at: Mapping[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each level."""
        return {level: sum(f.level == level for f in self.findings) for level in LEVELS}

    @property
    def is_well(self) -> bool:
        """Whether there is no error."""
        return not self.counts["error"]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for ``--json``."""
        return {
            "recipe": self.recipe,
            "well": self.is_well,
            "counts": self.counts,
            "findings": [
                {"check": f.check, "level": f.level, "saw": f.saw, "way_out": f.way_out,
                 "numbers": dict(f.numbers)}
                for f in self.findings
            ],
            "examples": [asdict(example) for example in self.examples],
            "not_looked_at": dict(self.not_looked_at),
        }  # fmt: skip
