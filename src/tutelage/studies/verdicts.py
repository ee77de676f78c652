"""What the numbers of a study say in words, and never more than they say."""

from typing import Literal

from tutelage.report.quantities import count, number
from tutelage.statistics import SeededDifference
from tutelage.studies.analysis import ALPHA, Analysis, CellAnalysis, Measure, Outcome

Verdict = Literal["control", "missing", "better", "worse", "cannot tell"]

_MOST_SENTENCES = 5

_SAME = 5e-4
"""Deviations below this part are none."""


def verdict_of(analysis: Analysis, cell: CellAnalysis) -> Verdict:
    """What the interval of the leading measure says of a cell.

    A single seed cannot tell, however many examples it has: the next seed is another student.
    """
    if cell.is_control:
        return "control"
    outcome = analysis.leading(cell)
    if outcome is None or outcome.difference is None:
        return "missing"
    difference = outcome.difference
    if len(difference.by_seed) < 2 or not difference.interval.excludes_zero:
        return "cannot tell"
    higher = difference.interval.mean > 0
    return "better" if higher != analysis.measures[0].metric.lower_is_better else "worse"


def is_confirmed(outcome: Outcome) -> bool:
    """Whether the test over seeds, adjusted for all cells, says that there is a difference."""
    return outcome.adjusted_p is not None and outcome.adjusted_p <= ALPHA


def cell_sentence(analysis: Analysis, cell: CellAnalysis) -> str:
    """The verdict of one cell with the numbers that it rests on, and what they cannot say."""
    return " ".join(filter(None, (_found(analysis, cell), _limits(analysis, cell))))


def _found(analysis: Analysis, cell: CellAnalysis) -> str:
    """What came out for a cell."""
    verdict, outcome = verdict_of(analysis, cell), analysis.leading(cell)
    if verdict == "control":
        return f"{cell.name} is what others are held against."
    if outcome is None:
        return f"{cell.name} has no runs yet."
    control = _control(analysis, cell)
    if outcome.difference is None:
        return f"{cell.name} shares no seed with {control} yet."
    found, measure = outcome.difference, analysis.measures[0]
    size = difference_text(measure, found, sign=verdict == "cannot tell")
    over = f"over {count(len(found.by_seed))} seeds"
    if len(found.by_seed) == 1:
        over = "over the examples of a single seed"
    if verdict == "cannot tell":
        return f"{cell.name} cannot be told from {control} ({size}, {over})."
    return f"{cell.name} is {verdict} than {control}: {size}, {over}; {p_words(outcome)}."


def _control(analysis: Analysis, cell: CellAnalysis) -> str:
    """What the control of a cell is called in a sentence about the cell."""
    other = next((one for one in analysis.cells if one.name == cell.control), None)
    if other is None or not cell.levels or other.levels != cell.levels:
        return cell.control
    return f"{other.arm} with the same settings"


def _limits(analysis: Analysis, cell: CellAnalysis) -> str:
    """What a reader must know of a cell's test."""
    outcome = analysis.leading(cell)
    if outcome is None or outcome.difference is None:
        return ""
    found = outcome.difference
    if len(found.by_seed) == 1:
        return "One seed says nothing of how seeds differ."
    if found.test.least_p > ALPHA:
        sets = found.num_data_sets > 1
        what = "data sets" if sets else "seeds"
        pieces = found.num_data_sets if sets else len(found.by_seed)
        if found.test.num_untied < pieces:
            what += " that differ"
        what = f"{count(found.test.num_untied)} {what}"
        return f"{what} can give no p below {p_text(found.test.least_p)}."
    if verdict_of(analysis, cell) == "cannot tell" or is_confirmed(outcome):
        return ""
    return "The test over seeds, adjusted for all comparisons, does not confirm it."


def difference_text(measure: Measure, found: SeededDifference, *, sign: bool = True) -> str:
    """A difference with its interval."""
    metric, interval = measure.metric, found.interval
    mean = interval.mean if sign else abs(interval.mean)
    text = f"{metric.text(mean, sign=sign)} {measure.unit}"
    if interval.known:
        text += f", 95 % interval {metric.interval(interval, sign=True)}"
    return text


def p_words(outcome: Outcome) -> str:
    """The p of a difference, with what Holm's adjustment made of it."""
    assert outcome.difference is not None and outcome.adjusted_p is not None
    test = outcome.difference.test
    words = f"p {p_text(test.p)}"
    if outcome.adjusted_p > test.p:
        words += f", adjusted {p_text(outcome.adjusted_p)}"
    return words


def p_text(value: float) -> str:
    """A p-value in two digits."""
    return "1" if value == 1 else number(value, 2)


def verdict_sentences(analysis: Analysis) -> list[str]:
    """The study in a few sentences, whoever is ahead."""
    if not analysis.measures:
        return ["No run has been scored yet."]
    compared = [cell for cell in analysis.compared if verdict_of(analysis, cell) != "missing"]
    if not compared:
        found = ["Nothing can be compared yet: no cell shares a seed with its control."]
    elif len(compared) <= _MOST_SENTENCES:
        # What is true of all of them is said once.
        found = [_found(analysis, cell) for cell in compared]
        found += dict.fromkeys(filter(None, (_limits(analysis, cell) for cell in compared)))
    else:
        found = _many(analysis, compared)
    if analysis.num_missing:
        found.append(missing_sentence(analysis))
    if analysis.left:
        found.append(
            f"{count(len(analysis.left))} cells have no final runs: the search is one race of all"
            " arms, and they did not win it."
        )
    return found


def _many(analysis: Analysis, compared: list[CellAnalysis]) -> list[str]:
    by_verdict = {
        name: [cell for cell in compared if verdict_of(analysis, cell) == name]
        for name in ("better", "worse", "cannot tell")
    }
    better, worse, rest = (count(len(by_verdict[name])) for name in by_verdict)
    found = [
        f"Of {count(len(compared))} cells, their intervals say that {better} are better than their"
        f" control and {worse} worse; {rest} cannot be told from it."
    ]
    if by_verdict["cannot tell"] == compared:
        found = [f"None of {count(len(compared))} cells can be told from its control."]
    outcomes = [outcome for cell in compared if (outcome := analysis.leading(cell)) is not None]
    confirmed = sum(map(is_confirmed, outcomes))
    tests = analysis.num_tests(analysis.measures[0].key)
    least = min(o.difference.test.least_p for o in outcomes if o.difference is not None)
    words = f"One interval in 20 excludes zero by chance; adjusted for all {count(tests)} tests"
    if least * tests > ALPHA:
        found.append(
            f"{words} none could be confirmed: with so few seeds the smallest adjusted p there can"
            f" be is {p_text(min(1.0, least * tests))}."
        )
    else:
        found.append(f"{words} {count(confirmed)} {'is' if confirmed == 1 else 'are'} confirmed.")
    sign = -1 if analysis.measures[0].metric.lower_is_better else 1

    def gain(cell: CellAnalysis) -> float:
        outcome = analysis.leading(cell)
        assert outcome is not None and outcome.difference is not None
        return sign * outcome.difference.interval.mean

    best = max(compared, key=gain)
    return [*found, f"Furthest ahead: {cell_sentence(analysis, best)}"]


def missing_sentence(analysis: Analysis) -> str:
    """Which runs are not there."""
    lacking = [cell for cell in analysis.cells if cell.missing]
    total = sum(cell.wanted for cell in analysis.cells)
    named = "; ".join(
        f"{cell.name}, {'seed' if len(cell.missing) == 1 else 'seeds'} {', '.join(cell.missing)}"
        for cell in lacking[:_MOST_SENTENCES]
    )
    more = len(lacking) - _MOST_SENTENCES
    ending = f"; and of {count(more)} more cells" if more > 0 else ""
    return f"{count(analysis.num_missing)} of {count(total)} runs are missing: {named}{ending}."


def cost_sentence(analysis: Analysis) -> str:
    """Whether all cells spent what they should alike; empty while that is not known."""
    known = {c.name: c.cost.excess for c in analysis.compared if c.cost is not None}
    found = {name: excess for name, excess in known.items() if excess is not None}
    if not found:
        return ""
    what = currency_words(analysis.currency)
    worst = max(found, key=lambda name: abs(found[name]))
    if abs(found[worst]) < _SAME:
        words = f"All cells spent the same {what} as their control."
    else:
        words = (
            f"Equal by {what}: the largest deviation from a control is"
            f" {100 * found[worst]:+.1f} % ({worst})."
        )
    return words if analysis.currency == "flops" else f"{words}{_flops_words(analysis)}"


def _flops_words(analysis: Analysis) -> str:
    """By how much the FLOPs differ where something else is equal."""
    costs = {c.name: sum(c.cost.flops.values()) for c in analysis.cells if c.cost is not None}
    found = {
        cell.name: costs[cell.name] / costs[cell.control] - 1
        for cell in analysis.compared
        if cell.name in costs and costs.get(cell.control)
    }
    worst = max(found, key=lambda name: abs(found[name]), default="")
    if not worst or abs(found[worst]) < _SAME:
        return ""
    return f" In FLOPs the largest deviation is {100 * found[worst]:+.1f} % ({worst})."


def currency_words(currency: str) -> str:
    """A currency as people write it."""
    return {"flops": "FLOPs"}.get(currency, currency.replace("_", " "))
