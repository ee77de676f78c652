"""What a judge's verdicts amount to."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tutelage.evaluation.judge.length import LengthControlled, length_controlled
from tutelage.evaluation.judge.values import JudgeSettings, Pair, Verdict
from tutelage.files import plain_json
from tutelage.statistics import Interval, bootstrap, interval_of_alike


@dataclass(frozen=True)
class Used:
    """What one call took; verdicts that were there cost nothing.

    Attributes:
        calls: questions to the judge.
        prompt_tokens: that it read, by the rule of ``cost``.
        answer_tokens: that it wrote.
        cost: of both, by the prices.
    """

    calls: int
    prompt_tokens: int
    answer_tokens: int
    cost: float


@dataclass(frozen=True)
class JudgeReport:
    """How often the first model's answer is better, and how far the judge can be believed.

    A pair counts when its verdicts in all orders could be read; its score is their mean, with a
    half for a tie. Shares are between 0 and 1, and None where nothing counts.

    Attributes:
        judge: who judged.
        pairs: how many there are.
        counted: pairs that count.
        alike: of these, pairs whose answers read the same: ties that nobody was asked about.
        wins: pairs with a score above a half.
        ties: pairs with a score of a half.
        losses: pairs with a score below a half.
        unreadable: verdicts that could not be read.
        used: what it took.
        verdicts: all of them.
        win_rate: mean score, with its 95 % interval over questions or clusters of them.
        length_controlled: the win rate if answers were as long.
        mean_lengths: characters of first and of second answers, over pairs that count.
        first_shown: mean score of the answer that was shown first, with its interval; a half where
            the place does not matter. None where pairs were shown in one order.
        flips: share of asked pairs that count where the judge called a winner in both orders, and
            not the same.
        differing: share of them whose two verdicts are not the same, ties included.
    """

    judge: str
    pairs: int
    counted: int
    alike: int
    wins: int
    ties: int
    losses: int
    unreadable: int
    used: Used
    verdicts: tuple[Verdict, ...]
    win_rate: Interval | None = None
    length_controlled: LengthControlled | None = None
    mean_lengths: tuple[float, float] | None = None
    first_shown: Interval | None = None
    flips: float | None = None
    differing: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values; numbers that are unknown are null."""
        found = asdict(self)
        for name in ("win_rate", "first_shown"):
            found[name] = _interval(getattr(self, name))
        if self.length_controlled is not None:
            found["length_controlled"] = _interval(self.length_controlled.rate)
            found["weight_of_length"] = self.length_controlled.weight
        return plain_json(found)


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    low, high = (interval.low, interval.high) if interval.known else (None, None)
    return {"mean": interval.mean, "low": low, "high": high}


def report_of(
    pairs: Sequence[Pair], verdicts: Sequence[Verdict], settings: JudgeSettings, used: Used
) -> JudgeReport:
    """What verdicts amount to.

    Args:
        pairs: all that were to be judged.
        verdicts: of each pair, one for each order.
        settings: how they were judged.
        used: what it took.
    """
    by_pair: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_pair[verdict.id].append(verdict)
    scores = {}
    for pair in pairs:
        found = [verdict.score for verdict in by_pair[pair.id]]
        readable = [score for score in found if score is not None]
        if len(readable) == len(found):
            scores[pair.id] = float(np.mean(readable))
    counted = [pair for pair in pairs if pair.id in scores]
    values = [scores[pair.id] for pair in counted]
    return JudgeReport(
        judge=settings.judge,
        pairs=len(pairs),
        counted=len(counted),
        alike=sum(pair.alike for pair in counted),
        wins=sum(value > 0.5 for value in values),
        ties=sum(value == 0.5 for value in values),
        losses=sum(value < 0.5 for value in values),
        unreadable=sum(verdict.winner is None for verdict in verdicts),
        used=used,
        verdicts=tuple(verdicts),
        **_rates(counted, values),
        **(_of_orders(counted, by_pair) if settings.both_orders else {}),
    )


def _rates(counted: Sequence[Pair], values: Sequence[float]) -> dict[str, Any]:
    """Win rates, over pairs that count."""
    if not counted:
        return {}
    clusters = [pair.cluster for pair in counted]
    first = [len(pair.first) for pair in counted]
    second = [len(pair.second) for pair in counted]
    return {
        "win_rate": _mean(values, clusters),
        "length_controlled": length_controlled(values, first, second, clusters),
        "mean_lengths": (float(np.mean(first)), float(np.mean(second))),
    }


def _of_orders(counted: Sequence[Pair], by_pair: Mapping[str, list[Verdict]]) -> dict[str, Any]:
    """How much the order of the answers matters, over pairs that the judge was asked about."""
    asked = [pair for pair in counted if not pair.alike]
    if not asked:
        return {}
    winners = [{verdict.winner for verdict in by_pair[pair.id]} for pair in asked]
    shown = [
        float(np.mean([verdict.for_shown_first or 0.0 for verdict in by_pair[pair.id]]))
        for pair in asked
    ]
    return {
        "first_shown": _mean(shown, [pair.cluster for pair in asked]),
        "flips": _share([two == {"first", "second"} for two in winners]),
        "differing": _share([len(two) > 1 for two in winners]),
    }


def _mean(values: Sequence[float], clusters: Sequence[str]) -> Interval:
    """With Wilson's interval where one model, or one place, won every time."""
    return interval_of_alike(values, clusters) or bootstrap(values, clusters=clusters)


def _share(found: Sequence[bool]) -> float:
    return sum(found) / len(found)
