import io
import json
import re
from dataclasses import replace

import pytest
import torch
import yaml
from rich.console import Console

from tutelage.printing import Printable
from tutelage.report import (
    CardResult,
    CardValues,
    card_values,
    exposure_table,
    load_run,
    model_card,
    plan_table,
    render_report,
    results_table,
)
from tutelage.report.card_facts import licence_warning
from tutelage.report.tables import exposure_rows


def shown(renderable, **options) -> str:
    file = io.StringIO()
    Console(file=file, width=80, **options).print(renderable)
    return file.getvalue()


def plan_of(lr_visits: list[float], teacher: list[float], examples: int = 100) -> dict:
    rows = [
        {
            "tenth": i + 1,
            "num_examples": (examples + 9 - i) // 10,
            "visits": 40.0,
            "lr_visits": lr,
            "teacher_visits": t,
            "plain_visits": 40.0,
            "plain_lr_visits": 20.0,
        }
        for i, (lr, t) in enumerate(zip(lr_visits, teacher, strict=True))
    ]
    stages = [{"steps": 10, "ce_weight": 0.0}]
    return {"num_examples": examples, "exposure": rows, "stages": stages}


@pytest.fixture(scope="module")
def run(run_folder):
    return load_run(run_folder)


def test_tables_fit_80_columns_and_need_no_colour(run):
    for renderable in (
        plan_table(run.main.plan),
        exposure_table(run.main.plan),
        results_table(run),
    ):
        text = shown(renderable, no_color=True)
        assert max(map(len, text.splitlines())) <= 80
        assert "\x1b" not in text


def test_a_ladder_shows_all_its_teachers_in_the_terminal(new_ladder):
    text = shown(results_table(load_run(new_ladder)), no_color=True)
    for name in ("weak", "strong"):
        assert f"teacher {name}" in text
    assert max(map(len, text.splitlines())) <= 80


def test_colour_carries_nothing(run):
    assert "<- hardly any teacher" in shown(exposure_table(run.main.plan))
    assert "\x1b[3" not in shown(results_table(run), force_terminal=True, color_system="standard")


def test_large_plans_and_long_names_still_fit(run):
    stage = {
        **run.main.plan["stages"][0],
        "stage": 20,
        "num_examples": 1_234_567,
        "mean_difficulty": 1234.5,
        "steps": 123_456,
        "teacher": "some-organisation/some-very-long-model-name-instruct",
    }
    text = shown(plan_table({**run.main.plan, "stages": [stage], "baseline_steps": 28_588}))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "1,234,567" in text and "123,456" in text and "28,588" in text


def test_plan_table_shows_stages_totals_and_warnings(run):
    text = shown(plan_table(run.main.plan))
    assert "teacher" in text and "as many steps as a plain run" in text
    assert "Warning: Tenths 9, 10 of the data (10 is the hardest)" in text


def test_markup_in_names_is_text(run):
    stage = {**run.main.plan["stages"][0], "teacher": "[red]x[/red]"}
    assert "[red]" in shown(plan_table({**run.main.plan, "stages": [stage], "recipe": "[b]r"}))


def test_exposure_is_divided_by_the_size_of_the_tenth():
    rows = exposure_rows(plan_of([20.0] * 10, [20.0] * 10, examples=100))
    assert [row["visits"] for row in rows] == [4.0] * 10
    assert [row["share"] for row in rows] == [1.0] * 10
    assert not any(row["mark"] for row in rows)


def test_marks_for_little_of_all_and_little_of_the_teacher():
    lr = [20.0, 4.0, 1.0, 20.0, 4.0] + [20.0] * 5
    teacher = [20.0, 4.0, 0.0, 1.0, 0.0] + [20.0] * 5
    marks = [row["mark"] for row in exposure_rows(plan_of(lr, teacher))]
    assert marks[:5] == [
        "",
        "little",
        "almost nothing",
        "hardly any teacher",
        "little, hardly any teacher",
    ]
    # A run without a teacher is not warned about that at every tenth.
    assert not any(row["mark"] for row in exposure_rows(plan_of([20.0] * 10, [0.0] * 10)))


def test_fewer_examples_than_tenths():
    rows = exposure_rows(plan_of([2.0] * 10, [0.0] * 10, examples=3))
    assert [row["tenth"] for row in rows] == [1, 2, 3]
    assert exposure_rows({}) == []


def test_results_table_before_and_after_evaluation(run, tmp_path):
    text = shown(results_table(run))
    for part in (
        "cpd minus it",
        "kld",
        "By group",
        "ROUGE-L",
        "95 % interval",
        "cpd reaches",
    ):
        assert part in text
    (tmp_path / "recipe.json").write_text("{}")
    assert shown(results_table(load_run(tmp_path))).strip() == "Nothing has been evaluated yet."


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def test_card_says_how_the_student_was_made(run):
    card = (run.folder / "arms/cpd/student/README.md").read_text()
    front = front_matter(card)
    (index,) = front.pop("model-index")
    assert front == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "apache-2.0",  # of the embedded student
        "tags": ["distillation", "tutelage"],
    }
    assert index["name"] == "arithmetic-student, distilled from arithmetic-strong (cpd)"
    for part in (
        "| teacher | embedded:arithmetic-strong (797 k parameters) |",
        "| train examples | 120 |",
        "Calibrated Progressive Distillation",
        "| 4 | 120 |",
        "| this student | exact match (%) |",
        "tutelage run recipe.yaml",
        "| learning rate | 0.0005, linear |",
        "| LoRA | no: all weights were trained |",
        "## Licence",
        f"| torch | {torch.__version__} |",
        "cpd reaches",
    ):
        assert part in card
    assert "\n# arithmetic-student, distilled from arithmetic-strong (cpd)\n" in card
    assert "\n\n\n" not in card


def test_the_hub_reads_the_scores_of_a_card(run):
    """As huggingface_hub does, which the hub's own pages follow."""
    from huggingface_hub import ModelCard, metadata_eval_result
    from huggingface_hub.repocard_data import model_index_to_eval_results

    card = ModelCard.load(run.folder / "arms/cpd/student/README.md")
    name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    assert name == card.data.model_name and results == card.data.eval_results
    scores = {
        suite: json.loads((run.folder / f"arms/cpd/{place}/scores.json").read_text())["scores"]
        for suite, place in (
            ("test", "evaluation"),
            ("small_numbers", "evaluation-small_numbers"),
        )
    }
    found = {(r.dataset_type, r.metric_type): r.metric_value for r in results}
    assert found == {
        (suite, {"rouge_l": "rouge"}.get(metric, metric)): round(score["mean"], 6)
        for suite, of_suite in scores.items()
        for metric, score in of_suite.items()
    }
    first = results[0]
    assert first.dataset_name == "test (40 examples)" and "95 % interval" in first.metric_name
    made = metadata_eval_result(
        model_pretty_name=name,
        task_pretty_name=first.task_name,
        task_id=first.task_type,
        metrics_pretty_name=first.metric_name,
        metrics_id=first.metric_type,
        metrics_value=first.metric_value,
        dataset_pretty_name=first.dataset_name,
        dataset_id=first.dataset_type,
    )
    (entry,) = made["model-index"][0]["results"]
    ours = card.data.to_dict()["model-index"][0]["results"][0]
    assert entry == {**ours, "metrics": [{**ours["metrics"][0], "verified": False}]}


def test_a_card_says_what_is_to_be_filled_in_and_what_it_took(run):
    card = (run.folder / "arms/cpd/student/README.md").read_text()
    assert card.count("**TO FILL IN**") == 2  # use, and people in the data
    assert "| test | made by Tutelage | 40 | none needed: made by a program |" in card
    assert "It was evaluated on test (40 examples), small_numbers (" in card
    assert re.search(r"\| time of its training \| [\d.]+ s \|", card)
    size = (run.folder / "arms/cpd/student/model.safetensors").stat().st_size
    assert re.search(rf"\| `model.safetensors` \| {size:,} bytes, CRC-32 [0-9a-f]{{8}} \|", card)
    little = model_card(CardValues("T", "r", "a", "s", "t", "c", data=[("train", "x", "9", "")]))
    assert little.count("**TO FILL IN**") == 3 and "`license:` at the top" in little


@pytest.mark.parametrize(
    ("licence", "words"),
    [
        ("", "is not known"),
        ("llama3", "does not let outputs"),
        ("llama3.1", "has 'Llama' at the beginning"),
        ("gemma", "derivative"),
        ("cc-by-nc-4.0", "no commercial use"),
        ("other", "one of its own"),
        ("apache-2.0", ""),
        ("mit", ""),
    ],
)
def test_licences_that_bind_students_are_warned_of(licence, words):
    said = licence_warning("the teacher", licence)
    assert words in said and bool(said) == bool(words)


def test_card_of_a_control_claims_no_teacher_and_no_verdict(run):
    sft = next(arm for arm in run.arms if arm.name == "sft")
    card = (run.folder / "arms/sft/student/README.md").read_text()
    assert "| teacher | none |" in card and "Calibrated Progressive" not in card
    assert "cpd reaches" not in card
    assert "\n# arithmetic-student, fine-tuned (sft)\n" in card
    assert sft.name == "sft"


def test_the_small_real_model_has_its_own_name_in_titles(run):
    small = {"name": "smollm2:instruct, 6 layers kept", "parameters": 9}
    teacher = {"name": "smollm2:instruct", "parameters": 10}
    ladder = dict.fromkeys(run.info["ladder"], "smollm2:instruct")
    named = replace(run, info={**run.info, "student": small, "teacher": teacher, "ladder": ladder})
    assert card_values(named, named.main).title == (
        "SmolLM2-135M-Instruct, 6 layers kept, distilled from SmolLM2-135M-Instruct (cpd)"
    )


def test_base_model_is_given_not_guessed():
    values = CardValues("T", "r", "a", "org/name", "t", "tutelage run r", base_model="org/name")
    assert front_matter(model_card(values))["base_model"] == "org/name"
    values = replace(values, relation="finetune", licence="mit", languages=("en", "no"))
    front = front_matter(model_card(values))
    assert (front["base_model_relation"], front["license"]) == ("finetune", "mit")
    assert front["language"] == ["en", "no"]


def test_card_with_little_known_and_hostile_text():
    values = CardValues(
        title="two\nlines --- # x",
        recipe_name="r",
        arm="a",
        student="s|t\nu",
        teacher="",
        command="tutelage run r",
        base_model='a: "b"\n- c',
        results=[CardResult("x|y", "m", "1.0")],
        num_test_examples=5,
    )
    card = model_card(values)
    assert front_matter(card)["base_model"] == 'a: "b"\n- c'
    assert "# two lines --- \\# x\n" in card
    assert "| started from | s\\|t u |" in card
    assert "| x\\|y | m | 1.0 | - |" in card
    assert "Not evaluated." in model_card(CardValues("T", "r", "a", "s", "t", "c"))


HOSTILE = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) \x1b]0;title\x07 \x9b2J | `"


def test_what_users_wrote_stays_text_in_a_card():
    values = CardValues(
        title=HOSTILE,
        recipe_name=HOSTILE,
        arm=HOSTILE,
        student=HOSTILE,
        teacher=HOSTILE,
        command=f"tutelage run ```\n{HOSTILE}",
        base_model=HOSTILE,
        description=HOSTILE,
        settings=[(HOSTILE, HOSTILE)],
        licences=[HOSTILE],
        load=HOSTILE,
        examples={HOSTILE: 3},
        results=[CardResult(HOSTILE, HOSTILE, "1.0")],
        verdict=[HOSTILE],
        versions={HOSTILE: HOSTILE},
    )
    card = model_card(values)
    assert front_matter(card)["base_model"] == HOSTILE
    body = card.split("\n---\n", 1)[1]
    # What is left outside of code: `code`, and fences, keep their text as it is.
    prose = re.sub(r"^(`{3,}).*?^\1$", "", body, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", prose)
    assert "<img" not in prose and not re.search(r"(?<!\\)\]\(", prose)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", card)
    rows = [line for line in body.splitlines() if line.startswith("| ") and "img" in line]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3, 5}


def test_the_card_names_a_recipe_that_is_there_and_code_that_runs(run, monkeypatch, capsys):
    from tutelage.recipe import load_recipe

    folder = run.folder / "arms" / "kld" / "student"
    assert load_recipe(folder / "recipe.yaml").fingerprint == run.info["fingerprint"]
    card = (folder / "README.md").read_text()
    monkeypatch.chdir(folder)
    exec(re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0], {})
    assert capsys.readouterr().out.strip()


def test_a_card_for_publishing_has_no_row_of_the_users_data(run):
    prompt = next(iter(run.main.evaluation.answers.values()))["prompt"]
    assert prompt not in model_card(card_values(run, run.main))
    assert prompt in model_card(card_values(run, run.main, show_prompt=True))


def test_terminal_commands_in_names_are_shown_as_text(new_run, tmp_path):
    folder = new_run(tmp_path / "run")
    for path in folder.rglob("answers.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [{**row, "group": f"\x1b[31mred\x9b[bold]{row['group']}"} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path in folder.rglob("scores.json"):
        path.write_text(path.read_text().replace('"groups": {', '"groups": {"\\u001b[2J": 0.5,'))
    for options in ({"no_color": True}, {"force_terminal": True, "color_system": "standard"}):
        text = shown(Printable(results_table(load_run(folder))), **options)
        assert "\\x1b[31mred\\x9b[bold]1" in text and "\\x1b[2J" in text
        assert "\x1b[31m" not in text and "\x1b[2J" not in text and "\x9b" not in text
    page = render_report(load_run(folder))
    assert "\x1b" not in page and "\x9b" not in page


def test_long_groups_stand_on_one_line(new_run, tmp_path):
    folder = new_run(tmp_path / "run")
    long = "open question answering, with a context 1"
    for path in folder.rglob("answers.jsonl"):
        path.write_text(path.read_text().replace('"group": "1"', f'"group": "{long}"'))
    text = shown(results_table(load_run(folder)))
    assert max(map(len, text.splitlines())) <= 80
    assert text.count(f"\n{long} ") == 2, "five models do not fit beside it: two tables"
