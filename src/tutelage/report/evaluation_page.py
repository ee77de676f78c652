"""One self-contained HTML page about evaluations of several models with several suites.

Like a run's report it has its style and its pictures inside, runs no script and loads nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.files import atomic_write_text
from tutelage.report import evaluation_views as views
from tutelage.report.evaluations import ModelResult, SuiteResults, by_suite, read_results
from tutelage.report.quantities import count, duration
from tutelage.report.templating import render

CHANGES = 8
"""Answers that changed, of each pair of models in each suite, that are shown."""


def write_evaluation_page(
    results: str | Path | Sequence[ModelResult],
    path: str | Path,
    *,
    title: str = "Evaluation",
    changes: int = CHANGES,
) -> Path:
    """Write a page about what models scored and answered, wholly or not at all.

    Args:
        results: of each model in each suite, the model first that others are held against; or the
            folder that ``tutelage eval`` wrote.
        path: of the page.
        title: what it is called.
        changes: how many answers that changed are shown of each pair of models in each suite.

    Returns:
        The path. The same results always give the same page.

    Raises:
        DataError: there are no results, or two of one model in one suite.
        RunFolderError: a file is broken or was changed, or the page cannot be written.
    """
    found = read_results(results) if isinstance(results, str | Path) else list(results)
    atomic_write_text(path, render_evaluation_page(found, title=title, changes=changes))
    return Path(path)


def render_evaluation_page(
    results: Sequence[ModelResult], *, title: str = "Evaluation", changes: int = CHANGES
) -> str:
    """The page as text."""
    suites = by_suite(results)
    pairs = [(suite, pair) for suite in suites for pair in suite.pairs]
    sections = [("scores", "Scores")]
    if pairs or any(suite.refused for suite in suites):
        sections += [("differences", "Differences")]
    if pairs:
        sections += [("changes", "Answers that changed")]
    sections += [("reading", "How to read this")]
    return render(
        "evaluation.html",
        title=title,
        sections=sections,
        verdict=views.verdict(suites),
        facts=_facts(results),
        overview=views.overview_view(suites),
        suites=[suite_view(suite, place) for place, suite in enumerate(suites)],
        refused=[f"{suite.name}: {words}" for suite in suites for words in suite.refused],
        differences=views.differences_view(suites),
        forest=views.differences_picture(suites),
        changes=[views.changes_of(suite, pair, changes) for suite, pair in pairs],
        clustered=any(pair.num_clusters < pair.num_shared for _, pair in pairs),
        first=results[0].model,
        num_tests=len(pairs),
    )


def suite_view(suite: SuiteResults, place: int) -> dict[str, Any]:
    """Tables and picture of one suite; ``place`` is its number on the page."""
    return {
        "name": suite.name,
        "scores": views.scores_view(suite),
        "figure": views.groups_figure(suite, place),
        "groups": views.groups_views(suite),
    }


def _facts(results: Sequence[ModelResult]) -> list[dict[str, str]]:
    """The few numbers that say how much was asked."""
    models = dict.fromkeys(result.model for result in results)
    asked = {result.suite: result.evaluated.num_examples for result in results}
    facts = [
        {"name": "Models", "text": count(len(models)), "note": ""},
        {"name": "Suites", "text": count(len(asked)), "note": ", ".join(asked)},
        {"name": "Questions", "text": count(sum(asked.values())), "note": "of all suites"},
    ]
    times = [result.seconds for result in results if result.seconds is not None]
    if times:
        note = "" if len(times) == len(results) else "of those that are known"
        facts.append({"name": "Time", "text": duration(sum(times)), "note": note})
    return facts
