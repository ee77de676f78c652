"""The page of a study: sound, alone, and saying what the analysis says, whatever is missing."""

import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from study_results import GRID, all_results, ledger, result, study

from browsing import browser
from conftest_pictures import leave_out_pictures
from tutelage.studies.analysis import analyse
from tutelage.studies.grids import grid_of
from tutelage.studies.load import load_study
from tutelage.studies.page import render_study_page, write_study_page
from tutelage.studies.plots import (
    cost_figure,
    curves_figure,
    forest_figure,
    groups_figure,
    labels_of,
)
from tutelage.studies.verdicts import verdict_sentences

EVIL = "Is <script>alert(1)</script> better?"
VOID = {"meta", "link", "br", "path", "use"}


class Checker(HTMLParser):
    """Collects tags, headings and attributes, and checks that elements are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.headings, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.headings += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def check(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


def rendered(loaded, results):
    return render_study_page(loaded, analyse(loaded, results), results)


def searched(loaded):
    """Rungs of a search that stopped the first of two trials."""
    for cell in loaded.cells:
        for trial, steps in zip(loaded.trials(cell), ([20], [20, 60]), strict=True):
            tuned = {level.factor: level.label for level in trial.tuned}
            for step in steps:
                about = {"role": "search", "tuned": tuned, "steps": step, "scores": {}}
                yield result(cell, 1000, [], value=-1.0 / step, **about)


@pytest.fixture(scope="module")
def whole():
    """A study with everything: search, groups, curves, costs, more than one measure."""
    search = {"factors": {"training.learning_rate": [0.001, 0.002]}, "rungs": 2}
    loaded = study(title=EVIL, seeds=6, search=search)
    finals = all_results(loaded, {"cpd": 0.15}, ledger=ledger(difficulty=3e10))
    finals = [replace(run, tuned={"training.learning_rate": "0.002"}) for run in finals]
    return loaded, [*searched(loaded), *finals]


@pytest.fixture(scope="module")
def page(whole):
    return rendered(*whole)


def test_the_page_loads_nothing_runs_nothing_and_is_accessible(page):
    checker = check(page)
    assert not {"script", "img", "iframe", "object", "embed", "video"} & set(checker.tags)
    for tag, name, value in checker.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "action", "srcset"):
            assert value.startswith(("#", "data:")), (tag, name, value)
    assert not re.search(r"https?://|@import|<image|data:image", page)
    assert checker.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(checker.headings, checker.headings[1:], strict=False))
    assert checker.tags.count("caption") == checker.tags.count("table")
    labels = [v for tag, name, v in checker.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == checker.tags.count("svg") > 5 and all(labels)
    ids = [value for _, name, value in checker.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    anchors = [v for tag, name, v in checker.attributes if tag == "a" and name == "href"]
    assert {anchor[1:] for anchor in anchors} <= set(ids)
    assert page.count('<div class="scroll"') >= page.count("<table>")
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_the_page_can_be_used_by_all(page, tmp_path):
    (tmp_path / "study.html").write_text(page)
    with browser() as looking:
        assert looking.faults(tmp_path / "study.html") == []


def test_text_of_users_stays_text(page):
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3  # title, heading, study


def test_the_first_screen_has_claim_and_verdict(page, whole):
    loaded, results = whole
    opening = page[page.index("<header>") : page.index("</header>")]
    assert loaded.study.claim in opening
    for sentence in verdict_sentences(analyse(loaded, results)):
        assert html.escape(sentence, quote=False) in html.unescape(opening)
    assert "cpd is better than kld" in opening and "of each cell" in opening


def test_every_part_is_there(page):
    for words in ("Seed by seed", "By group", "While training", "What it cost", "How to read this"):
        assert words in page
    assert "The search tried 4 settings in 160 updates; all of them" in page
    assert "<td>learning_rate 0.002" in page and "least 0.031" in page
    assert "tutelage study made.yaml" in page and "3.12" in page
    assert "teacher" in page and "90.0" in page


def test_the_same_results_give_the_same_page_in_place(whole, page, tmp_path):
    loaded, results = whole
    path = write_study_page(loaded, analyse(loaded, results), results, tmp_path / "page.html")
    assert path.read_text() == page


@pytest.mark.parametrize("kept", [0, 1, 5, 9])
def test_a_study_that_is_under_way_has_a_page(kept, whole, monkeypatch):
    leave_out_pictures(monkeypatch)
    loaded, results = whole
    finals = [run for run in results if run.role == "final"][:kept]
    page = rendered(loaded, finals)
    check(page)
    assert ("Not there yet" in page) == (kept == 0)
    assert kept == 0 or f"{12 - kept} of 12 runs are missing" in page


@pytest.mark.parametrize("lost", ["curve", "ledger", "agreement", "references", "versions"])
def test_what_runs_do_not_say_is_left_out(lost, whole, monkeypatch):
    leave_out_pictures(monkeypatch)
    loaded, results = whole
    empty = {"curve": (), "ledger": None}.get(lost, {})
    page = rendered(loaded, [replace(run, **{lost: empty}) for run in results])
    check(page)
    assert ("While training" in page) == (lost != "curve")
    assert ("What it cost" in page) == (lost != "ledger")


def test_a_forest_has_every_cell_and_every_measure():
    loaded = load_study({**GRID, "seeds": 3, "factors": {"curriculum.stages": list(range(2, 34))}})
    analysis = analyse(loaded, all_results(loaded, examples=8))
    panels = forest_figure(analysis).panels
    assert len(panels) == 4  # 32 cells in two panels, of exact match and of closeness
    assert sum(panel.alt.count("95 % interval") for panel in panels[:2]) == 32
    assert "the best one of each arm is shown" in curves_figure(analysis).caption
    assert len(cost_figure(analysis).panels) == 6
    assert groups_figure(analysis) is None  # too many to tell apart


def test_of_many_arms_the_control_and_the_best_have_curves():
    arms = {"kld": {"extends": "kld"}, **{f"cpd{n}": {"extends": "cpd"} for n in range(9)}}
    loaded = study(arms=arms, seeds=2)
    analysis = analyse(loaded, all_results(loaded, {"cpd7": 0.3, "kld": -0.3}))
    panel = curves_figure(analysis).panels[0]
    assert panel.alt.count(" from ") == 6 and "kld from" in panel.alt and "cpd7 from" in panel.alt


def test_two_factors_make_a_grid_of_differences_for_each_arm():
    loaded = load_study({**GRID, "seeds": 3})
    analysis = analyse(loaded, all_results(loaded, {"cpd": 0.3}))
    grid = grid_of(analysis)
    assert grid.relative and list(grid.panels) == ["cpd"]
    assert (grid.rows, grid.columns) == (("0", "0.5"), ("0.001", "0.002", "0.004"))
    cell = next(c for c in analysis.cells if c.name == "cpd, ce_weight 0.5, learning_rate 0.004")
    expected = analysis.leading(cell).difference.interval
    found = grid.panels["cpd"]["0.5", "0.004"]
    assert (found.value, found.told) == (expected.mean, expected.excludes_zero)


def test_a_grid_with_its_control_inside_shows_values():
    loaded = load_study({**GRID, "arms": {"kld": {"extends": "kld"}}, "seeds": 2})
    analysis = analyse(loaded, all_results(loaded))
    grid = grid_of(analysis)
    assert not grid.relative and len(grid.panels["kld"]) == 6
    assert grid.panels["kld"]["0", "0.001"].value == analysis.leading(analysis.cells[0]).mean


def test_arms_and_one_factor_make_a_grid_too():
    loaded = study(factors={"loss.ce_weight": [0.0, 0.5]}, seeds=2)
    grid = grid_of(analyse(loaded, all_results(loaded)))
    assert (grid.rows, grid.columns) == (("kld", "cpd"), ("0", "0.5")) and not grid.relative
    assert grid_of(analyse(study(), all_results(study()))) is None


def test_labels_are_short_where_that_is_clear():
    loaded = load_study({**GRID, "seeds": 1})
    analysis = analyse(loaded, [])
    assert labels_of(analysis.compared)["cpd, ce_weight 0, learning_rate 0.001"] == "0, 0.001"
    assert labels_of(analysis.cells)["cpd, ce_weight 0, learning_rate 0.001"] == "cpd, 0, 0.001"
    assert labels_of(analyse(study(), []).cells) == {"kld": "kld", "cpd": "cpd"}
