"""Several runs side by side."""

import json
import shutil

import pytest

from conftest_pictures import leave_out_pictures
from tutelage.errors import ConfigError
from tutelage.report import load_run
from tutelage.report.runs_page import compare_runs, render_runs_page
from tutelage.statistics import paired_difference


@pytest.fixture
def two(new_run, tmp_path):
    """A run, and another with other settings whose main arm got ten more test examples right."""
    first, second = new_run(tmp_path / "one"), new_run(tmp_path / "two")
    recipe = second / "recipe.yaml"
    text = recipe.read_text().replace("learning_rate: 0.0005", "learning_rate: 0.001")
    (second / "recipe.json").unlink()
    recipe.write_text(text.replace("  student: null", "  student: 7"))
    answers = second / "arms/cpd/evaluation/answers.jsonl"
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    wrong = [row for row in rows if row["scores"]["exact_match"] == 0][:10]
    for row in wrong:
        row["scores"]["exact_match"] = row["answer_scores"]["exact_match"] = 1.0
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return first, second


def test_recipes_data_scores_and_answers_stand_side_by_side(two, monkeypatch):
    leave_out_pictures(monkeypatch)
    runs = compare_runs(two)
    assert list(runs.runs) == ["one", "two"] and runs.same_data
    assert runs.data == ["one and two: the same 40 test examples, by id and by content."]
    assert runs.differing["training.learning_rate"] == [0.0005, 0.001]
    assert runs.differing["seeds.student"] == [0, 7]
    described = json.loads(json.dumps(runs.as_dict()))
    (pair,) = described["suites"]["test"]["differences"]
    ours, theirs = (load_run(f).main.evaluation.values("exact_match") for f in two)
    expected = paired_difference(ours, theirs).interval
    assert pair["mean"] == pytest.approx(-0.25) and pair["examples"] == 40
    assert pair["interval"] == [expected.low, expected.high]
    assert pair["p"] == pytest.approx(2 / 2**10)  # McNemar: ten coins that all fell alike
    page = render_runs_page(runs)
    for text in ("training.learning_rate", "<td>0.001</td>", "By time", "10 are wrong where"):
        assert text in page
    assert '<h4>two: <span class="right">right</span></h4>' in page


def test_other_test_data_are_said_and_not_compared(two, monkeypatch):
    leave_out_pictures(monkeypatch)
    second = two[1]
    answers = second / "arms/cpd/evaluation/answers.jsonl"
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    for row in rows:
        row.pop("question", None)
    rows[0]["prompt"], rows[1]["id"] = "another question?", "elsewhere"
    answers.write_text("".join(json.dumps(row) + "\n" for row in rows))
    runs = compare_runs(two)
    assert not runs.same_data and not runs.suites[0].pairs
    assert runs.data == [
        "one and two: not the same test examples. 39 ids are shared, of which 1 have another prompt"
        " or reference; 1 and 1 are in one alone."
    ]
    page = render_runs_page(runs)
    assert "not the same test examples" in page and "Not compared." in page
    assert "were not asked the same" in page


def test_all_arms_and_runs_that_are_not_done(run_folder, new_ladder, tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    runs = compare_runs([run_folder, new_ladder], all_arms=True)
    names = [f"{run_folder.name}: {arm}" for arm in ("cpd", "sft", "kld")]
    assert list(runs.models)[:3] == names and len(runs.suites[0].results) == len(runs.models)
    young = tmp_path / "young"
    young.mkdir()
    shutil.copy(run_folder / "recipe.yaml", young)
    (young / "recipe.json").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tutelage.report.run.read_recipe", lambda path, record: path.read_text())
        runs = compare_runs([run_folder, young])
    assert runs.data == [f"{run_folder.name} and young: not known before both are evaluated."]
    assert not runs.same_data and runs.differing == {}
    assert "same in every setting" in render_runs_page(runs)


def test_a_run_is_compared_with_another_one(run_folder):
    for folders in ([run_folder], [run_folder, run_folder / "../" / run_folder.name]):
        with pytest.raises(ConfigError, match="two different run folders"):
            compare_runs(folders)
