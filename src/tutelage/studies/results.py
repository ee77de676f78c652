"""What one run of a study came to: plain values in one small file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tutelage.proofs import read_sealed, write_sealed
from tutelage.types import Ledger


@dataclass(frozen=True)
class Scores:
    """One measure of one run on the test data.

    Attributes:
        ids: of the examples.
        values: of each example, in the same order; the mean over sampling seeds where there are.
        clusters: of each example, what it depends on together with others; empty names: nothing.
        groups: of each example; empty where the data has no groups.
    """

    ids: Sequence[str]
    values: Sequence[float]
    clusters: Sequence[str]
    groups: Sequence[str]

    @property
    def mean(self) -> float:
        """Over all examples."""
        return sum(self.values) / len(self.values)


@dataclass(frozen=True)
class Result:
    """What one run came to.

    Attributes:
        key: of the run: names its folder and its file.
        role: ``final`` for what the table is made of; ``search`` for a rung of the search, ``ask``
            for what its sampler asks for; ``pilot`` and ``price`` for what finds out how many
            updates an arm gets.
        cell: name of the cell, without what was tuned.
        arm: its arm.
        levels: label of its level by factor.
        tuned: label by factor of what the search tries, or has chosen.
        seeds: by job.
        steps: updates that are made; of a rung so far.
        total_steps: updates of the whole plan.
        value: what a rung decides by, or how many updates a pilot or a price allows.
        scores: by ``SUITE:METRIC``; of final runs.
        references: means of ``teacher`` and ``student_before`` by ``SUITE:METRIC``.
        agreement: closeness to the teacher on the test data; empty where it is not measured.
        curve: one row for each validation: ``step``, ``seconds``, and the measures by name.
        ledger: what the whole run costs.
        folder: the run folder.
        versions: of Python and packages.
        asked: settings that the sampler asks for, by factor; of role ``ask``.
        took: seconds that this piece of work took, from its start to this result.
    """

    key: str
    role: str
    cell: str
    arm: str
    levels: Mapping[str, str]
    tuned: Mapping[str, str]
    seeds: Mapping[str, int]
    steps: int
    total_steps: int
    value: float | None = None
    scores: Mapping[str, Scores] = field(default_factory=dict)
    references: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    agreement: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[Mapping[str, float]] = ()
    ledger: Ledger | None = None
    folder: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    asked: Sequence[Mapping[str, Any]] = ()
    took: float = 0.0


def write_result(path: Path, result: Result) -> None:
    """Write a result, wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(path, asdict(result))


def read_result(path: Path) -> Result | None:
    """A result as it was written; None where there is none, or it is damaged."""
    found = read_sealed(path)
    if found is None:
        return None
    found.pop("seal", None)
    scores = {name: Scores(**one) for name, one in found["scores"].items()}
    ledger = None if found["ledger"] is None else Ledger(**found["ledger"])
    rows = {name: tuple(found.get(name, ())) for name in ("curve", "asked")}
    return Result(**{**found, **rows, "scores": scores, "ledger": ledger})
