"""What an exported folder says of itself, beside its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.files import atomic_write_json, read_json_or

DESCRIPTION = "tutelage.json"
"""In an exported folder: where it came from, how it is asked, and how it was compared."""


@dataclass(frozen=True)
class Compared:
    """How an exported model was held against the run's student.

    Attributes:
        rows: of the run's data that both have read.
        tokens: in them.
        largest: largest difference between two logits.
        agreement: share of the positions at which both find the same token likeliest.
        identical: whether no bit of any logit differs.
    """

    rows: int
    tokens: int
    largest: float
    agreement: float
    identical: bool

    @property
    def words(self) -> str:
        """For people."""
        if self.identical:
            return f"bit-identical to the run's student on {self.rows} rows ({self.tokens} tokens)"
        return (
            f"largest difference of a logit to the run's student {self.largest:.3g}, same likeliest"
            f" token at {self.agreement:.1%} of {self.tokens} tokens of {self.rows} rows"
        )


def write_description(folder: Path, value: dict[str, Any]) -> None:
    """Write what a folder is."""
    atomic_write_json(folder / DESCRIPTION, value)


def read_description(folder: str | Path) -> dict[str, Any] | None:
    """What :func:`write_description` wrote; None for a folder that was not exported."""
    found = read_json_or(Path(folder) / DESCRIPTION, {})
    return found if isinstance(found.get("prompt"), dict) else None
