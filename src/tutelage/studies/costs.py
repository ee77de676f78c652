"""What the cells of a study spent, and how good they were while they spent it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tutelage.studies.results import Result
from tutelage.types import Ledger

_BEFORE = ("difficulty", "texts")
"""Purposes that are paid before the first update; all others are paid evenly over the updates."""

_STORED = "teacher store"
"""The stage of a run that asks its teacher before the first update."""

_NO_MEASURES = ("step", "seconds", "loss")


@dataclass(frozen=True)
class Cost:
    """What a run of a cell costs: means over its runs.

    Attributes:
        updates: optimizer steps.
        student_tokens: tokens that the student reads in them.
        flops: floating-point operations by what they are for.
        seconds: of the machine, by stage.
        excess: of what all cells should spend alike, how much more than the control, as a part of
            the control's; None for what the control's runs do not tell.
    """

    updates: float
    student_tokens: float
    flops: Mapping[str, float]
    seconds: Mapping[str, float]
    excess: float | None


@dataclass(frozen=True)
class Curve:
    """A measure of the validation data over training, over the runs of a cell.

    Attributes:
        measure: its name.
        steps: updates at which all runs were looked at.
        means: over runs.
        spreads: standard deviations over runs; 0 for a single one.
        flops: floating-point operations until then, those before training too; empty when unknown.
        seconds: the same of time.
    """

    measure: str
    steps: tuple[int, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    flops: tuple[float, ...]
    seconds: tuple[float, ...]


def cost_of(runs: Iterable[Result], control: Iterable[Result], currency: str) -> Cost | None:
    """Means of what runs cost; None where no run says.

    Args:
        runs: of a cell.
        control: of its control; the same for a control.
        currency: what both should spend alike.
    """
    ledgers = [run.ledger for run in runs if run.ledger is not None]
    if not ledgers:
        return None
    others = [run.ledger.amount(currency) for run in control if run.ledger is not None]
    excess = None
    if others and np.mean(others) > 0:
        own = np.mean([ledger.amount(currency) for ledger in ledgers])
        excess = float(own / np.mean(others) - 1)
    return Cost(
        updates=float(np.mean([ledger.updates for ledger in ledgers])),
        student_tokens=float(np.mean([ledger.student_tokens for ledger in ledgers])),
        flops=_means([ledger.flops for ledger in ledgers]),
        seconds=_means([ledger.seconds for ledger in ledgers]),
        excess=excess,
    )


def _means(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each part; a run that lacks one spent nothing on it."""
    names = dict.fromkeys(name for one in parts for name in one)
    return {name: float(np.mean([one.get(name, 0.0) for one in parts])) for name in names}


def curve_of(runs: Iterable[Result], measure: str) -> Curve | None:
    """How good runs were while they were trained; None where fewer than two looks are shared.

    Args:
        runs: of a cell.
        measure: wanted; where a run was selected by another one, that one.
    """
    runs = [run for run in runs if run.curve]
    looks = [{int(row["step"]): row for row in run.curve} for run in runs]
    if not looks:
        return None
    steps = sorted(set.intersection(*(set(one) for one in looks)))
    rows = [[one[step] for step in steps] for one in looks]
    known = [name for name in _shared_names(rows) if name not in _NO_MEASURES]
    if len(steps) < 2 or not known:
        return None
    name = measure if measure in known else known[0]
    values = np.array([[row[name] for row in one] for one in rows], dtype=np.float64)
    spread = values.std(axis=0, ddof=1) if len(rows) > 1 else np.zeros(len(steps))
    ledgers = [run.ledger for run in runs]
    return Curve(
        measure=name,
        steps=tuple(steps),
        means=tuple(values.mean(axis=0).tolist()),
        spreads=tuple(spread.tolist()),
        flops=_flops(ledgers, steps),
        seconds=_seconds(ledgers, rows),
    )


def _shared_names(rows: Sequence[Sequence[Mapping[str, float]]]) -> list[str]:
    """Names that every row has, in the order of the first."""
    every = [row for one in rows for row in one]
    return [name for name in every[0] if all(name in row for row in every)] if every else []


def _flops(ledgers: Sequence[Ledger | None], steps: Sequence[int]) -> tuple[float, ...]:
    if any(ledger is None or not ledger.flops or not ledger.updates for ledger in ledgers):
        return ()
    found = []
    for ledger in ledgers:
        assert ledger is not None
        names = (*_BEFORE, "teacher") if _STORED in ledger.seconds else _BEFORE
        before = sum(ledger.flops.get(name, 0.0) for name in names)
        along = ledger.amount("flops") - before
        found.append([before + along * step / ledger.updates for step in steps])
    return tuple(np.mean(found, axis=0).tolist())


def _seconds(
    ledgers: Sequence[Ledger | None], rows: Sequence[Sequence[Mapping[str, float]]]
) -> tuple[float, ...]:
    if not all("seconds" in row for one in rows for row in one):
        return ()
    found = []
    for ledger, one in zip(ledgers, rows, strict=True):
        spent = {} if ledger is None else ledger.seconds
        before = sum(value for name, value in spent.items() if name != "training")
        found.append([before + row["seconds"] for row in one])
    return tuple(np.mean(found, axis=0).tolist())
