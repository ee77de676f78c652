"""What a judge said of two models, in lines for the terminal."""

from collections.abc import Iterator

from tutelage.evaluation.judge import JudgeReport
from tutelage.statistics import Interval


def judged_lines(first: str, second: str, report: JudgeReport) -> Iterator[str]:
    """The win rate first, then how far it can be believed.

    Args:
        first: the model whose win rate it is.
        second: the model that it is held against.
        report: what the judge said.
    """
    if report.win_rate is None:
        yield f"No pair counts: {report.unreadable} verdicts of {report.judge} could not be read."
        return
    yield (
        f"{first} wins {_percent(report.win_rate)} of {report.counted} questions against {second}"
        f" (ties half): {report.wins} won, {report.ties} tied, {report.losses} lost"
    )
    if report.length_controlled is not None and report.mean_lengths is not None:
        ours, theirs = report.mean_lengths
        yield (
            f"if answers were as long: {_percent(report.length_controlled.rate)}"
            f" (they have {ours:,.0f} and {theirs:,.0f} characters)"
        )
    if report.first_shown is not None:
        yield f"the answer shown first gets {_percent(report.first_shown)}; 50 % is no bias"
    if report.flips is not None and report.differing is not None:
        yield (
            f"{100 * report.flips:.0f} % of pairs had another winner in the other order,"
            f" {100 * report.differing:.0f} % another verdict"
        )
    left = report.pairs - report.counted
    if left:
        yield (
            f"{left} of {report.pairs} pairs do not count: {report.unreadable} verdicts could not"
            " be read"
        )
    used = report.used
    yield (
        f"{used.calls:,} questions to {report.judge}: about {used.prompt_tokens:,} tokens read,"
        f" {used.answer_tokens:,} written" + (f", {used.cost:.2f} spent" if used.cost else "")
    )


def _percent(interval: Interval) -> str:
    if not interval.known:
        return f"{100 * interval.mean:.1f} %"
    return f"{100 * interval.mean:.1f} % ({100 * interval.low:.1f}-{100 * interval.high:.1f})"
