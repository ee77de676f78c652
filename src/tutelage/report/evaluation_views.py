"""The tables and pictures of the page about evaluations, as plain values."""

from collections.abc import Sequence
from typing import Any

from tutelage.evaluation.compare import Answers, Change, PairedComparison, forms_differ
from tutelage.report.comparison import Metric, natural
from tutelage.report.evaluations import ModelResult, SuiteResults
from tutelage.report.outcome_plots import GroupScores, differences_figure, results_figure
from tutelage.report.page_tables import Cell, Row, View, group_view, scaled
from tutelage.report.quantities import MISSING, count, duration, number, percent, short_name
from tutelage.report.svg import Picture
from tutelage.statistics import Interval

_MOST_SENTENCES = 6

_MOST_CHARACTERS = 2000
"""Of a text that is shown."""

ALPHA = 0.05
"""At or below this adjusted p two models are said to differ."""


def overview_view(suites: Sequence[SuiteResults]) -> View | None:
    """The leading score of every model in every suite; None for one suite, which has its own."""
    suites = [suite for suite in suites if suite.comparison.metrics]
    if len(suites) < 2:
        return None
    models = dict.fromkeys(result.model for suite in suites for result in suite.results)
    rows = []
    for model in models:
        cells = []
        for suite in suites:
            found = next((m for m in suite.comparison.models if m.name == model), None)
            metric = suite.comparison.metrics[0]
            score = found.scores.get(metric.name) if found else None
            cells.append(
                Cell(metric.text(score.mean), metric.interval(score)) if score else Cell(MISSING)
            )
        rows.append(Row(model, tuple(cells)))
    headers = (f"{suite.name}: {suite.comparison.metrics[0].label}" for suite in suites)
    caption = "The leading score of each suite, mean with 95 % interval"
    return View(caption, ("model", *headers), tuple(rows))


def scores_view(suite: SuiteResults) -> View:
    """All scores of one suite, a row for each model."""
    metrics = suite.comparison.metrics
    rows = []
    for result, model in zip(suite.results, suite.comparison.models, strict=True):
        cells = []
        for metric in metrics:
            score = model.scores.get(metric.name)
            cells.append(
                Cell(metric.text(score.mean), metric.interval(score)) if score else Cell(MISSING)
            )
        cells += [
            _seeds(result, metrics),
            Cell(percent(result.evaluated.truncated)),
            Cell(count(result.evaluated.num_examples)),
            Cell(duration(result.seconds)),
        ]
        rows.append(Row(result.model, tuple(cells)))
    headers = ("model", *(metric.label for metric in metrics))
    headers += ("sampling seeds", "cut at the limit", "questions", "time")
    return View(f"{suite.name}: means with 95 % intervals", headers, tuple(rows))


def _seeds(result: ModelResult, metrics: Sequence[Metric]) -> Cell:
    """How many seeds there were, with the lowest and highest mean of the leading score."""
    metric = metrics[0] if metrics else None
    stored = result.evaluated.scores.get(metric.name, {}) if metric else {}
    seeds = [float(seed) for seed in stored.get("seeds") or []]
    if metric is None or len(seeds) < 2:
        return Cell(str(len(seeds) or MISSING))
    return Cell(str(len(seeds)), f"{metric.text(min(seeds))} to {metric.text(max(seeds))}")


def groups_views(suite: SuiteResults) -> list[View]:
    """The leading score by group, and the paired differences by group."""
    if not suite.comparison.groups or not suite.comparison.metrics:
        return []
    views = [group_view(suite.comparison, suite.comparison.models)]
    metric = suite.comparison.metrics[0]
    if suite.pairs:
        rows = []
        for group in sorted({g for pair in suite.pairs for g in pair.groups}, key=natural):
            cells = []
            for pair in suite.pairs:
                found = pair.groups.get(group)
                cells.append(_difference(metric, found.interval) if found else Cell(MISSING))
            rows.append(Row(group, tuple(cells)))
        caption = f"{suite.pairs[0].first} minus each other model by group, with 95 % intervals"
        views.append(View(caption, ("group", *(p.second for p in suite.pairs)), tuple(rows)))
    return views


def groups_figure(suite: SuiteResults, place: int) -> Picture | None:
    """The leading score by group as a picture; None where there are no groups, or very many."""
    groups = suite.comparison.groups
    if not 0 < len(groups) <= 20 or not suite.comparison.metrics:
        return None
    metric = suite.comparison.metrics[0]
    models = [
        GroupScores(
            short_name(model.name),
            {
                short_name(group): scaled(value, metric.scale)
                for group, value in suite.comparison.by_group(model, metric).items()
            },
        )
        for model in suite.comparison.models
    ]
    return results_figure(models, metric.label, f"groups-{place}")


def differences_view(suites: Sequence[SuiteResults]) -> View | None:
    """The first model against each of the others in every suite; None where there is none."""
    rows = []
    for suite in suites:
        for pair in suite.pairs:
            rows.append(Row(suite.name, tuple(_difference_cells(suite, pair))))
    if not rows:
        return None
    first = next(pair.first for suite in suites for pair in suite.pairs)
    headers = ("suite", "other model", "questions", "difference", "standard error")
    headers += ("p", "p, adjusted", "test")
    caption = f"{first} minus the other model, question by question, with 95 % intervals"
    return View(caption, headers, tuple(rows))


def _difference_cells(suite: SuiteResults, pair: PairedComparison) -> list[Cell]:
    metric = suite.comparison.metrics[0]
    test, way = pair.test.name.split(", ")[:2]
    notes = [f"{count(pair.test.num_untied)} untied"]
    if pair.num_clusters < pair.num_shared:
        notes[0] = f"{count(pair.num_clusters)} clusters, {notes[0]}"
    notes += [
        f"{count(alone)} of {short_name(name)} alone left out"
        for name, alone in (
            (pair.first, pair.num_first_only),
            (pair.second, pair.num_second_only),
        )
        if alone
    ]
    return [
        Cell(short_name(pair.second), metric.label),
        Cell(count(pair.num_shared), "; ".join(notes)),
        _difference(metric, pair.difference),
        Cell(metric.text(pair.standard_error)),
        Cell(p_text(pair.test.p), f"least {p_text(pair.test.least_p)}"),
        Cell(p_text(pair.adjusted_p)),
        Cell(test.removesuffix(" test"), way),
    ]


def _difference(metric: Metric, value: Interval) -> Cell:
    """A paired difference; resampling nothing but zeros would show a width of nothing."""
    if value.mean == value.low == value.high == 0:
        return Cell(metric.text(value.mean), "no score differs")
    return Cell(metric.text(value.mean, sign=True), metric.interval(value, sign=True))


def p_text(value: float) -> str:
    """A p-value in two digits."""
    return "1" if value == 1 else number(value, 2)


def differences_picture(suites: Sequence[SuiteResults]) -> Picture | None:
    """A forest plot of all paired differences, a panel for each unit; None where there is none."""
    panels: dict[str, dict[str, GroupScores]] = {}
    first = ""
    for suite in suites:
        for pair in suite.pairs:
            metric, first = suite.comparison.metrics[0], pair.first
            title = "Difference (points)"
            if metric.scale != 100:
                title = f"Difference ({metric.words})"
            models = panels.setdefault(title, {})
            model = models.setdefault(pair.second, GroupScores(short_name(pair.second), {}))
            scores = {**model.scores, short_name(suite.name): scaled(pair.difference, metric.scale)}
            models[pair.second] = GroupScores(model.name, scores)
    if not panels:
        return None
    drawn = {title: list(models.values()) for title, models in panels.items()}
    return differences_figure(drawn, first)


def verdict(suites: Sequence[SuiteResults]) -> list[str]:
    """What the comparisons say in sentences, whoever is ahead."""
    pairs = [(suite, pair) for suite in suites for pair in suite.pairs]
    if not pairs:
        return []
    found = [(suite, pair) for suite, pair in pairs if pair.adjusted_p <= ALPHA]
    many = len(pairs) > 1
    if not found and many:
        sentences = [f"None of the {len(pairs)} comparisons shows a difference."]
    elif not found:
        ((_, pair),) = pairs
        sentences = [
            f"These questions cannot tell {pair.first} from {pair.second}"
            f" (p {p_text(pair.test.p)})."
        ]
    else:
        sentences = [_sentence(suite, pair) for suite, pair in found[:_MOST_SENTENCES]]
        if len(found) > _MOST_SENTENCES:
            sentences.append(f"{len(found) - _MOST_SENTENCES} more show one; see the table below.")
        if many and len(found) < len(pairs):
            left = len(pairs) - len(found)
            rest = "comparison shows" if left == 1 else f"{left} of {len(pairs)} comparisons show"
            sentences.append(f"The other {rest} no difference.")
    unable = sum(pair.test.least_p > ALPHA for _, pair in pairs)
    if unable:
        where = f"In {unable} of them none" if many else "No difference"
        sentences.append(f"{where} could have been shown: too few scores differ at all.")
    return sentences


def _sentence(suite: SuiteResults, pair: PairedComparison) -> str:
    metric, value = suite.comparison.metrics[0], pair.difference
    higher = value.mean > 0
    unit = " points" if metric.scale == 100 else ""
    size = metric.text(abs(value.mean))
    ends = f"95 % interval {metric.interval(value, sign=True)}, " if value.known else ""
    word = "above" if higher else "below"
    return (
        f"{suite.name}: {pair.first} is {size}{unit} {word} {pair.second}"
        f" ({metric.words}; {ends}adjusted p {p_text(pair.adjusted_p)})."
    )


def changes_of(suite: SuiteResults, pair: PairedComparison, limit: int) -> dict[str, Any]:
    """The answers whose scores differ between two models, side by side.

    Args:
        suite: where they were asked.
        pair: the two models.
        limit: at most so many, from both directions alike.
    """
    metric = suite.comparison.metrics[0]
    evaluated = {result.model: result.evaluated for result in suite.results}
    chosen = _from_both(pair.first_better, pair.second_better, limit)
    first, second = evaluated[pair.first].answers, evaluated[pair.second].answers
    counts = _counts(pair, len(chosen))
    if forms_differ(Answers(pair.first, first), Answers(pair.second, second)):
        counts += (
            " The two were asked the same questions in different forms, as text and as"
            f" conversations; shown is that of {pair.first}."
        )
    return {
        "title": f"{suite.name}: {pair.first} and {pair.second}",
        "counts": counts,
        "items": [
            {
                "id": change.id,
                "group": str(first[change.id].get("group") or ""),
                "prompt": middle_cut(str(first[change.id].get("prompt", ""))),
                "reference": middle_cut(str(first[change.id].get("reference", ""))),
                "answers": [
                    _answer(pair, metric, pair.first, first[change.id], change.first),
                    _answer(pair, metric, pair.second, second[change.id], change.second),
                ],
            }
            for change in chosen
        ],
    }


def _from_both(ours: Sequence[Change], theirs: Sequence[Change], limit: int) -> list[Change]:
    """As many of both as there are, up to a limit; where one has few the other has more."""
    half = max(limit - len(theirs), (limit + 1) // 2)
    chosen = list(ours[:half])
    return [*chosen, *theirs[: limit - len(chosen)]]


def _counts(pair: PairedComparison, shown: int) -> str:
    ours, theirs = len(pair.first_better), len(pair.second_better)
    words = ("right", "wrong") if pair.binary else ("higher", "lower")
    same = pair.num_shared - ours - theirs
    text = (
        f"{count(ours)} answers of {pair.first} are {words[0]} where those of {pair.second} are"
        f" {words[1]}; {count(theirs)} are {words[1]} where those of {pair.second} are"
        f" {words[0]}; {count(same)} have the same score."
    )
    if shown < ours + theirs:
        text += f" Shown are {count(shown)}"
        text += ", chosen by the hash of the id." if pair.binary else ", the largest differences."
    return text


def _answer(
    pair: PairedComparison, metric: Metric, model: str, row: Any, score: float
) -> dict[str, str]:
    tone = ("right" if score == 1 else "wrong") if pair.binary else ""
    note = tone or f"{metric.words} {metric.text(score)}"
    return {
        "model": model,
        "text": middle_cut(str(row.get("answer", ""))),
        "tone": tone,
        "note": note,
    }


def middle_cut(text: str) -> str:
    """The text, of a long one its beginning and its end.

    The question comes after worked examples, and what an answer arrives at comes last.
    """
    left_out = len(text) - _MOST_CHARACTERS
    if left_out <= 0:
        return text
    start = _MOST_CHARACTERS // 3
    return f"{text[:start]}\n[... {left_out:,} characters left out ...]\n{text[start + left_out :]}"
