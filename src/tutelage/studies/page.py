"""One self-contained HTML page about a study.

Like a run's report it has its style and its pictures inside, runs no script and loads nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml

from tutelage.files import atomic_write_text
from tutelage.report.templating import render
from tutelage.studies import plots, views
from tutelage.studies.analysis import Analysis
from tutelage.studies.grids import grid_of
from tutelage.studies.load import LoadedStudy
from tutelage.studies.results import Result
from tutelage.studies.verdicts import cost_sentence, verdict_sentences

_OPEN_RACES = 3
"""With more tables of trials than that each is shown when it is asked for."""


def write_study_page(
    loaded: LoadedStudy, analysis: Analysis, results: Sequence[Result], path: str | Path
) -> Path:
    """Write a page about what a study came to so far, wholly or not at all.

    Args:
        loaded: the study.
        analysis: of its results.
        results: the same, for versions and seeds.
        path: of the page.

    Returns:
        The path. The same results always give the same page.
    """
    atomic_write_text(path, render_study_page(loaded, analysis, results))
    return Path(path)


def render_study_page(loaded: LoadedStudy, analysis: Analysis, results: Sequence[Result]) -> str:
    """The page as text."""
    study, grid = loaded.study, grid_of(analysis)
    seeds = [dict(one) for one in study.seeds.all]
    groups, curves = views.groups_view(analysis), plots.curves_figure(analysis)
    cost = views.cost_view(analysis)
    sections = [("results", "Results")]
    if grid is not None:
        sections.append(("grid", "Grid"))
    if groups is not None:
        sections.append(("groups", "By group"))
    if curves is not None:
        sections.append(("curves", "While training"))
    if cost is not None:
        sections.append(("cost", "What it cost"))
    if analysis.races:
        sections.append(("search", "Search"))
    sections += [("reading", "How to read this"), ("reproduce", "How to reproduce")]
    return render(
        "study.html",
        title=analysis.title,
        claim=analysis.claim,
        verdict=verdict_sentences(analysis),
        equality=cost_sentence(analysis),
        facts=views.facts(analysis, seeds),
        sections=sections,
        forest=plots.forest_figure(analysis),
        results=views.results_view(analysis) if analysis.measures else None,
        by_seed=views.seeds_view(analysis),
        grid=None if grid is None else plots.grid_figure(analysis, grid),
        groups=groups,
        groups_figure=plots.groups_figure(analysis),
        curves=curves,
        cost=cost,
        cost_figure=plots.cost_figure(analysis),
        search_words=views.search_words(analysis.races) if analysis.races else "",
        chosen=views.chosen_view(analysis),
        races=[(race.cell, views.race_view(race)) for race in analysis.races],
        races_open=len(analysis.races) <= _OPEN_RACES,
        left=list(analysis.left),
        num_seeds=len(seeds),
        num_tests=analysis.num_tests(analysis.measures[0].key) if analysis.measures else 0,
        nested=_nested(analysis),
        one_data_seed="data" not in seeds[0],
        file=f"{study.name}.yaml",
        text=yaml.safe_dump(loaded.tree.plain, sort_keys=False, allow_unicode=True),
        versions=views.versions_view(results),
    )


def _nested(analysis: Analysis) -> bool:
    """Whether seeds have test examples of their own."""
    found = (analysis.leading(cell) for cell in analysis.compared)
    return any(o is not None and o.difference and o.difference.num_data_sets > 1 for o in found)
