import html
import json
import os
import re
import shutil
from html.parser import HTMLParser

import pytest
import torch

from conftest_pictures import leave_out_pictures
from tutelage.errors import RunFolderError
from tutelage.proofs import read_sealed, write_sealed
from tutelage.report import load_run, render_report, write_report
from tutelage.report.page_tables import data_view, difficulty_view
from tutelage.training.alarms import Alarms, raised
from tutelage.training.own_text import OwnText
from tutelage.training.rollouts import Rollout

VOID = {"meta", "link", "br", "path", "use"}


class Checker(HTMLParser):
    """Collects what the tests ask about and checks that elements are closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.headings, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def check(page: str) -> Checker:
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def page(run_folder):
    return render_report(load_run(run_folder))


def test_page_loads_nothing_and_runs_nothing(page):
    checker = check(page)
    assert not {"script", "img", "iframe", "object", "embed", "video"} & set(checker.tags)
    for tag, name, value in checker.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "action", "srcset"):
            assert value.startswith(("#", "data:")), (tag, name, value)
    assert "http://" not in page and "https://" not in page
    assert "@import" not in page and "url(http" not in page


def test_user_text_is_escaped(page):
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3  # title, heading, recipe
    assert "a &lt;b&gt;bold&lt;/b&gt; &amp; brave claim" in page


def test_page_is_accessible(page):
    checker = check(page)
    assert checker.headings[0] == 1 and checker.headings.count(1) == 1
    steps = zip(checker.headings, checker.headings[1:], strict=False)
    assert all(after - before <= 1 for before, after in steps)
    assert '<html lang="en">' in page
    scopes = [value for tag, name, value in checker.attributes if tag == "th" and name == "scope"]
    assert checker.tags.count("th") == len(scopes) and set(scopes) == {"col", "row"}
    assert checker.tags.count("caption") == checker.tags.count("table")
    labels = [v for tag, name, v in checker.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == checker.tags.count("svg") and all(labels)
    ids = [value for _, name, value in checker.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    anchors = [v for tag, name, v in checker.attributes if tag == "a" and name == "href"]
    assert {anchor[1:] for anchor in anchors} <= set(ids)


def test_page_knows_light_dark_and_narrow(page):
    assert "prefers-color-scheme: dark" in page
    assert "--series-1: #56a9e8" in page
    assert 'name="viewport"' in page
    assert page.count('<div class="scroll"') >= page.count("<table>")


def test_page_says_what_came_out(page, run_folder):
    scores = json.loads((run_folder / "arms/cpd/evaluation/scores.json").read_text())
    assert f"cpd reaches {100 * scores['scores']['exact_match']['mean']:.1f} % exact match" in page
    for text in ("cpd minus this model", "student before", "group: 5", "hardly any teacher"):
        assert text in page
    fingerprint = json.loads((run_folder / "run.json").read_text())["fingerprint"]
    for text in ("Plan of sft", "Plan of kld", torch.__version__, fingerprint):
        assert text in page
    assert "Not there yet" not in page


def test_page_is_deterministic_and_written_in_place(new_run, tmp_path):
    folder = new_run(tmp_path / "run")
    path = write_report(folder)
    assert path == folder / "report.html"
    first = path.read_bytes()
    assert not list(folder.glob(".tmp-*"))
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    (moved / "report.html").unlink()
    assert write_report(moved).read_bytes() == first


def test_a_ladder_shows_all_its_teachers_in_tables_and_pictures(new_ladder):
    page = render_report(load_run(new_ladder))
    for name in ("weak", "strong"):
        # A row of scores, a column by group, the legend and the words of the picture.
        assert page.count(f"teacher {name}") >= 4
    assert re.search(r'<svg[^>]*aria-label="[^"]*teacher weak: all', page)


def test_groups_of_numbers_stand_in_their_order(new_run, tmp_path):
    folder = new_run(tmp_path / "run")
    for path, splits in (("data/summary.json", True), ("difficulty/summary.json", False)):
        summary = json.loads((folder / path).read_text())
        for part in summary.values() if splits else [summary]:
            value = next(iter(part["groups"].values()))
            part["groups"] = {"10": value, "2": value}
        (folder / path).write_text(json.dumps(summary))
    run = load_run(folder)
    data = [row.name for row in data_view(run).rows if row.name.startswith("group")]
    assert data == ["group: 2", "group: 10"]
    assert [row.name for row in difficulty_view(run).rows] == ["2", "10"]


def test_a_folder_that_was_only_opened_gives_a_page_that_says_so(tmp_path):
    with pytest.raises(RunFolderError, match=r"is no run folder, so there is nothing to report"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "recipe.json").write_text("{}")
    page = write_report(tmp_path).read_text()
    check(page)
    assert page.count("Not there yet") == 9
    assert "has not been evaluated yet" in page


def test_all_suites_of_a_run_stand_in_one_table(new_run, tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    folder = new_run(tmp_path / "run")
    info = read_sealed(folder / "run.json")
    assert info["suites"] == ["test", "small_numbers"]
    assert "small_numbers" in render_report(load_run(folder))
    write_sealed(folder / "run.json", {**info, "suites": ["test"]})
    assert "All suites" not in render_report(load_run(folder))
    write_sealed(folder / "run.json", {**info, "suites": ["test", "sums-b", "a"]})
    score = {"mean": 0.25, "seeds": [0.25], "interval": [0.125, 0.5], "groups": {}}
    for place in ("arms/cpd", "arms/sft", "references/teacher"):
        for suite, metric in (("sums-b", "number"), ("a", "rouge_l")):
            scores = {"num_examples": 8, "truncated": 0.0, "scores": {metric: score}}
            part = folder / place / f"evaluation-{suite}"
            part.mkdir()
            (part / "scores.json").write_text(json.dumps(scores))
    page = render_report(load_run(folder))
    check(page)
    table = page[page.index("All suites") :].split("</table>")[0]
    headers = re.findall('<th scope="col">(.*?)</th>', table)
    assert headers == ["model", "test: exact match (%)", "sums-b: number (%)", "a: ROUGE-L (%)"]
    rows = dict(re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', table))
    assert list(rows)[:3] == ["cpd", "sft", "kld"] and list(rows)[-1] == "teacher"
    assert rows["sft"].endswith(2 * "<td>25.0<small>12.5 to 50.0</small></td>")
    assert rows["kld"].endswith(2 * "<td>-</td>")


MISSING = [
    "recipe.yaml",
    "run.json",
    "versions.json",
    "data",
    "difficulty",
    "difficulty/profile.parquet",
    "arms",
    "arms/cpd",
    "arms/cpd/plan/plan.json",
    "arms/cpd/plan/steps.parquet",
    "arms/cpd/metrics.jsonl",
    "arms/cpd/validation.jsonl",
    "arms/cpd/evaluation",
    "arms/cpd/evaluation/answers.jsonl",
    "arms/cpd/evaluation/agreement.json",
    "arms/sft/evaluation",
    "references",
    "references/teacher",
]


@pytest.mark.parametrize("name", MISSING)
def test_any_file_may_be_missing(run_folder, tmp_path, monkeypatch, name):
    folder = shutil.copytree(run_folder, tmp_path / "run", copy_function=os.link)
    gone = folder / name
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    leave_out_pictures(monkeypatch)  # the alternative texts are still computed
    page = render_report(load_run(folder))
    check(page)
    assert ("Not evaluated yet: sft." in page) == (name == "arms/sft/evaluation")


def test_rows_done_twice_after_a_resume_count_once(new_run, tmp_path):
    folder = new_run(tmp_path / "run")
    with (folder / "arms/cpd/metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 77.0}\n{"step": 5, "lo')
    rows = load_run(folder).arms[0].metrics
    assert [row["step"] for row in rows] == [3, 6, 9, 12]
    assert rows[0]["loss"] == 77.0


@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "versions.json",
        "recipe.yaml",
        "data/summary.json",
        "difficulty/profile.parquet",
        "arms/cpd/plan/plan.json",
        "arms/cpd/plan/steps.parquet",
        "arms/cpd/metrics.jsonl",
        "arms/cpd/validation.jsonl",
        "arms/cpd/student/manifest.json",
        "arms/cpd/evaluation/scores.json",
        "arms/cpd/evaluation/manifest.json",
        "references/teacher/evaluation/answers.jsonl",
    ],
)
def test_what_was_changed_since_is_named_and_not_reported(run_folder, tmp_path, name):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    content = bytearray((folder / name).read_bytes())
    content[-20] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(RunFolderError, match=re.escape(f"'{folder / name}' was changed or dam")):
        load_run(folder)


def test_records_of_a_training_that_goes_on_are_not_held_against_an_older_student(
    run_folder, tmp_path
):
    folder = shutil.copytree(run_folder, tmp_path / "run")
    (folder / "arms/cpd/training").mkdir()
    (folder / "arms/cpd/metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    assert [row["loss"] for row in load_run(folder).arms[0].metrics] == [2.0]


def test_errors_say_what_why_and_what_to_do(new_run, tmp_path):
    with pytest.raises(RunFolderError, match=r"no run folder.*tutelage run RECIPE"):
        write_report(tmp_path / "nowhere")
    folder = new_run(tmp_path / "run")
    summary = folder / "data/summary.json"
    summary.write_text('{"name": ')
    with pytest.raises(RunFolderError, match=r"summary\.json' cannot be read.*Delete this file"):
        write_report(folder)
    summary.write_text("[1]")
    with pytest.raises(RunFolderError, match="does not hold a JSON object"):
        write_report(folder)
    summary.write_text("{}")
    (folder / "difficulty/profile.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(RunFolderError, match=r"profile\.parquet' cannot be read"):
        write_report(folder)


def test_the_page_says_what_next_and_its_commands_run(run_folder, page, monkeypatch, capsys):
    from tutelage.recipe import load_recipe

    run = load_run(run_folder)
    shown = html.unescape(page)
    commands = re.findall(
        r"(?:^|>)tutelage run (\S+) --set (seeds\.student=\d+)$", shown, re.MULTILINE
    )
    assert [change for _, change in commands] == ["seeds.student=1", "seeds.student=2"]
    for recipe, change in commands:
        changed = load_recipe(recipe, [change])
        assert changed.recipe.student_seed in (1, 2) and list(changed.arms) == ["cpd", "sft", "kld"]
        assert load_recipe(recipe).fingerprint == run.info["fingerprint"]
    code = re.search(r"from transformers import .*?skip_special_tokens=True\)\)", shown, re.DOTALL)
    assert code and str(run_folder / "arms/cpd/student") in code.group()
    exec(code.group(), {})
    assert capsys.readouterr().out.strip()


def test_warnings_stand_at_the_top(page, run_folder):
    top = page[: page.index("<nav")]
    for warning in load_run(run_folder).main.plan["warnings"]:
        assert html.escape(warning, quote=False) in html.unescape(top)
    assert "The plan of cpd warned." in top


def test_what_a_student_wrote_itself_is_drawn_and_its_alarms_stand_at_the_top(
    new_run, tmp_path, page
):
    assert "The student's own answers" not in page and "raised an alarm" not in page
    folder = new_run(tmp_path / "run")
    log = folder / "arms/kld/metrics.jsonl"
    history = []
    for number, row in enumerate(map(json.loads, log.read_text().splitlines())):
        text = OwnText(torch.device("cpu"))
        tokens = (5,) * 7 if number else tuple(range(9))
        text.add_answers([Rollout("a", 0, 0, (1,), tokens, truncated=number > 0)], [8], 1)
        row |= text.record(3, lambda sums: sums)
        history.append({**row, **raised(history, row, Alarms())})
    log.write_text("".join(json.dumps(row) + "\n" for row in history))
    page = render_report(load_run(folder))
    check(page)
    top, rest = html.unescape(page).split("<nav")
    alarm = "Training kld raised an alarm at step 9.</strong> The student repeats itself: 75%"
    assert alarm in top and "stood in the same answer before (alarm above 50%)" in top
    assert top.count("raised an alarm") == 2 and "at step 9.</strong> 0% of the student's" in top
    training = rest[rest.index('<section id="training"') : rest.index('<section id="samples"')]
    assert "<h3>The student's own answers</h3>" in training
    said = "Share that ended by themselves over steps: kld from 1.00 to 0."
    assert said in training
    assert "Tokens of an answer over steps: kld from 9.00 to 7.00." in training
    assert "Entropy (nats per token)" not in training


def test_a_weak_teacher_is_said_at_the_top(new_run, tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    folder = new_run(tmp_path / "run")
    answers = folder / "references/teacher/evaluation"
    shutil.rmtree(answers)
    shutil.copytree(folder / "references/student_before/evaluation", answers)
    top = render_report(load_run(folder)).split("<nav")[0]
    assert "The teacher is no better than what it teaches" in top and "of the gap" not in top


def test_names_with_dollars_are_drawn_as_they_are(new_run, tmp_path):
    folder = new_run(tmp_path / "run")
    for path in folder.rglob("answers.jsonl"):
        path.write_text(path.read_text().replace('"group": "1"', '"group": "$\\\\frac{$ & 5$"'))
    page = render_report(load_run(folder))
    assert "$\\frac{$ &amp; 5$" in page


def test_one_word_for_a_tenth(page, run_folder):
    assert "decile" not in page.lower()
    plan = (run_folder / "arms/cpd/plan/plan.json").read_text()
    assert "decile" not in plan.lower() and '"tenth": 10' in plan
