"""The page about evaluations of several models with several suites."""

import json
import re
import zlib

import numpy as np
import pytest
from test_report_page import check

from conftest_pictures import leave_out_pictures
from tutelage.errors import DataError, RunFolderError
from tutelage.report import ModelResult, read_results, render_evaluation_page, write_evaluation_page
from tutelage.report.evaluation_views import (
    _from_both,
    changes_of,
    differences_view,
    middle_cut,
    short_name,
)
from tutelage.report.evaluations import by_suite
from tutelage.statistics import bootstrap, wilson_interval

EVIL = "<script>alert(1)</script>"


def write_result(
    folder, scores, *, groups=(), cluster=0, seconds=12.5, metric="correct", about=None
):
    """The files of an evaluation, as they are written.

    Args:
        folder: MODEL/SUITE.
        scores: one of each question, or a list with one of each seed.
        groups: labels that questions get in turn.
        cluster: so many questions share a passage.
        seconds: how long it took.
        metric: the name of the score.
        about: what `suite.json` says.
    """
    arrays = np.atleast_2d(np.array(scores, dtype=float))
    means = arrays.mean(axis=0)
    rows = [
        {
            "id": f"q{i}",
            "prompt": f"Question {i}? {EVIL}",
            "reference": str(i),
            "answer": f"{folder.parent.name} says {score:g}",
            "answer_scores": {metric: float(arrays[0, i]), "length": 3.0},
            "group": groups[i % len(groups)] if groups else "",
            "cluster": f"passage {i // cluster}" if cluster else "",
            "scores": {metric: float(score), "length": 3.0},
            "samples": [],
        }
        for i, score in enumerate(means)
    ]
    found = bootstrap(means, resamples=200)
    score = {
        "mean": float(means.mean()),
        "seeds": arrays.mean(axis=1).tolist(),
        "interval": [found.low, found.high],
        "groups": {},
    }
    fixed = {"mean": 3.0, "seeds": [3.0], "interval": [3.0, 3.0], "groups": {}}
    folder.mkdir(parents=True)
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = {
        "num_examples": len(rows),
        "truncated": 0.125,
        "scores": {metric: score, "length": fixed},
        "seconds": seconds,
    }
    (folder / "scores.json").write_text(json.dumps(summary))
    if about is not None:
        (folder / "suite.json").write_text(json.dumps(about))


def binary(model, count=60):
    """The same right and wrong answers for the same name and count."""
    rng = np.random.default_rng(zlib.crc32(model.encode()))
    return (rng.random(count) < {"a": 0.7, "b": 0.4}.get(model, 0.65)).astype(float)


@pytest.fixture(scope="module")
def evals(tmp_path_factory):
    """Three models; right or wrong answers with groups, graded ones of two seeds, passages."""
    base = tmp_path_factory.mktemp("evals")
    for model in "abc":
        write_result(base / model / "sums", binary(model), groups=("level 10", "level 2"))
        graded = np.random.default_rng(ord(model)).random((2, 12))
        write_result(base / model / "texts", graded, metric="rouge_l")
        write_result(base / model / "passages", binary(model, 40), cluster=8)
    return base


@pytest.fixture(scope="module")
def page(evals):
    return render_evaluation_page(read_results(evals), title=f"Sums {EVIL}")


def test_the_page_loads_nothing_runs_nothing_and_is_accessible(page):
    checker = check(page)
    assert not {"script", "img", "iframe", "object", "embed"} & set(checker.tags)
    for tag, name, value in checker.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert value.startswith(("#", "data:")), (tag, name, value)
    assert "http://" not in page and "https://" not in page and "<script" not in page
    assert page.count("&lt;script&gt;") > 3
    assert checker.headings[0] == 1 and checker.headings.count(1) == 1
    ids = [value for _, name, value in checker.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    anchors = [v for tag, name, v in checker.attributes if tag == "a" and name == "href"]
    assert {anchor[1:] for anchor in anchors} <= set(ids) and len(anchors) == 4
    labels = [v for tag, name, v in checker.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == checker.tags.count("svg") == 2 and all(labels)
    assert checker.tags.count("caption") == checker.tags.count("table") == page.count('"scroll"')
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page


def test_the_page_says_what_was_scored_how_long_it_took_and_how_much_was_cut(page, evals):
    scores = json.loads((evals / "a/sums/scores.json").read_text())["scores"]["correct"]
    assert f"<td>{100 * scores['mean']:.1f}<small>" in page
    low, high = (f"{100 * end:.1f}" for end in scores["interval"])
    assert f"{low} to {high}" in page
    for text in ("12.5 %", "1 min 52 s", "ROUGE-L (%)", "<td>2<small>", "level 10"):
        assert text in page
    assert page.index("level 2<") < page.index("level 10<")


def test_differences_have_their_test_the_least_p_and_holm(evals):
    suites = by_suite(read_results(evals))
    view = differences_view(suites)
    assert [row.name for row in view.rows] == [
        "passages",
        "passages",
        "sums",
        "sums",
        "texts",
        "texts",
    ]
    pairs = [pair for suite in suites for pair in suite.pairs]
    assert [pair.test.name.partition("'")[0] for pair in pairs[2:]] == ["McNemar"] * 2 + [
        "Wilcoxon"
    ] * 2
    assert all(pair.test.name.startswith("sign-flip") for pair in pairs[:2])
    # Adjusted over all six, not suite by suite.
    least = min(pairs, key=lambda pair: pair.test.p)
    assert least.adjusted_p == pytest.approx(6 * least.test.p)
    cells = view.rows[2].cells
    assert (cells[0].text, cells[1].text) == ("b", "60") and view.caption.startswith("a minus")
    assert cells[4].note.startswith("least ")
    assert cells[1].note == f"{pairs[2].test.num_untied} untied"
    assert view.rows[0].cells[1].note == f"5 clusters, {pairs[0].test.num_untied} untied"


def test_the_verdict_is_computed(page, evals):
    assert re.search(r"sums: a is [\d.]+ points above b \(correct; 95 % interval \+", page)
    assert "The other 5 of 6 comparisons show no difference." in page
    assert "In 2 of them none could have been shown" in page  # five passages: no p below 0.06


def test_answers_that_changed_stand_side_by_side(page, evals):
    (suite,) = by_suite([r for r in read_results(evals) if r.suite == "sums" and r.model != "c"])
    found = changes_of(suite, suite.pairs[0], 6)
    ours, theirs = binary("a"), binary("b")
    assert found["counts"].startswith(f"{int((ours > theirs).sum())} answers of a are right where")
    assert "Shown are 6, chosen by the hash of the id." in found["counts"]
    notes = [[answer["note"] for answer in item["answers"]] for item in found["items"]]
    assert notes == [["right", "wrong"]] * 3 + [["wrong", "right"]] * 3
    assert found["items"][0]["answers"][1]["text"] == "b says 0"
    assert "a says 1" in page and "ROUGE-L " in page


def test_long_texts_keep_their_end_where_the_question_and_the_result_are():
    text = "example " * 1000 + "Question?"
    found = middle_cut(text)
    assert found.startswith("example ") and found.endswith("example Question?")
    (left_out,) = re.findall(r"\[\.\.\. ([\d,]+) characters left out \.\.\.\]", found)
    assert int(left_out.replace(",", "")) == len(text) - 2000
    assert middle_cut("short") == "short"
    assert short_name("HuggingFaceTB/SmolLM2-135M-Instruct") == "HuggingFace...35M-Instruct"


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [(9, 9, (3, 2)), (9, 1, (4, 1)), (1, 9, (1, 4)), (1, 1, (1, 1)), (0, 9, (0, 5))],
)
def test_both_directions_are_shown(ours, theirs, expected):
    chosen = _from_both(["a"] * ours, ["b"] * theirs, 5)
    assert (chosen.count("a"), chosen.count("b")) == expected


def test_one_model_in_one_suite_needs_no_comparison(tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    write_result(tmp_path / "m" / "s", [1.0, 1.0, 1.0, 1.0])
    page = write_evaluation_page(tmp_path, tmp_path / "page.html").read_text()
    check(page)
    assert "differences-title" not in page and "changes-title" not in page
    # All are right: resampling finds no width.
    assert f"{100 * wilson_interval(4, 4).low:.1f} to 100.0" in page
    again = write_evaluation_page([ModelResult.read(tmp_path / "m/s")], tmp_path / "other.html")
    assert again.read_text() == page


def test_no_width_is_never_taken_for_certainty(tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    for model in "ab":
        write_result(tmp_path / model / "s", [0.0, 1.0] * 3, groups=("hard", "easy"))
    page = render_evaluation_page(read_results(tmp_path))
    assert "These questions cannot tell a from b (p 1)." in page
    assert "No difference could have been shown: too few scores differ at all." in page
    assert page.count("<td>0.0<small>no score differs</small></td>") == 3
    low, high = (f"{100 * end:.1f}" for end in (wilson_interval(3, 3).low, 1))
    assert page.count(f"<td>100.0<small>{low} to {high}</small></td>") == 2


def test_titles_come_from_the_file_beside_the_scores(tmp_path):
    about = {"model": "Org/Some model", "suite": "gsm8k", "seconds": 99.0}
    write_result(tmp_path / "org-some" / "x", [1.0, 0.0], about=about)
    (found,) = read_results(tmp_path)
    assert (found.model, found.suite, found.seconds) == ("Org/Some model", "gsm8k", 99.0)
    found = ModelResult.read(tmp_path / "org-some" / "x", "A", "B")
    assert (found.model, found.suite) == ("A", "B")


def test_what_cannot_be_compared_is_said_and_the_rest_is_shown(tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    for model in "abc":
        write_result(tmp_path / model / "s", binary(model))
    path = tmp_path / "b" / "s" / "answers.jsonl"
    path.write_text(path.read_text().replace("Question 7?", "Another?"))
    page = render_evaluation_page(read_results(tmp_path))
    check(page)
    assert "Not compared." in page and "question &#39;q7&#39; has another prompt" in page
    assert "s: a and c" in page and "s: a and b" not in page


def test_models_with_no_suite_in_common_are_shown(tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    write_result(tmp_path / "a" / "one", [1.0, 0.0])
    write_result(tmp_path / "b" / "two", [1.0, 0.0])
    page = render_evaluation_page(read_results(tmp_path))
    assert check(page) and "differences-title" not in page


def test_mistakes_are_named(tmp_path):
    with pytest.raises(DataError, match=r"No evaluation was found below .*`tutelage eval"):
        write_evaluation_page(tmp_path, tmp_path / "page.html")
    with pytest.raises(DataError, match="no results to show"):
        render_evaluation_page([])
    with pytest.raises(DataError, match=r"no evaluation to show. Make one with"):
        ModelResult.read(tmp_path)
    write_result(tmp_path / "a" / "s", [1.0, 0.0])
    one = ModelResult.read(tmp_path / "a" / "s")
    with pytest.raises(DataError, match="two results of the model 'a' in the suite 's'"):
        render_evaluation_page([one, one])
    (tmp_path / "a/s/scores.json").write_text("{")
    with pytest.raises(RunFolderError, match="cannot be read"):
        write_evaluation_page(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
