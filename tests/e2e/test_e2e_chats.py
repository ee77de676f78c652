"""A run on a chat format whose turns end with another token than texts, and long test examples."""

import json

import pytest
from killing import small_recipe

from conftest_models import tiny_model
from tutelage.data.arithmetic import build_tokenizer
from tutelage.pipeline import run

CHAT = "{% for m in messages %}{{ m.content }}{{ '<end>' if m.role == 'assistant' }}{% endfor %}"


@pytest.fixture
def recipe(tmp_path):
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    tokenizer.chat_template = CHAT
    for name, seed in (("teacher", 2), ("student", 1)):
        tiny_model(vocab=len(tokenizer), seed=seed).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    recipe = small_recipe(tmp_path)
    data = {"max_length": 24, "max_prompt_length": 7, "levels": [1, 2, 3]}
    return {
        **recipe,
        "data": {**recipe["data"], **data, "train": 24, "validation": 0},
        "curriculum": {"stages": 2, "passes": 1},
        "selection": {"metric": None},
        "evaluation": {**recipe["evaluation"], "student_before": False},
        "teacher": {**recipe["teacher"], "finetune": {"epochs": 1}},
        "controls": {},
    }


def read(path):
    return json.loads(path.read_text())


def test_what_was_learned_is_what_is_asked_and_where_it_ends(recipe, tmp_path, capsys):
    found = run(recipe, quiet=False)
    shown = " ".join(capsys.readouterr().err.split())
    assert "answers end with '<end>', as the chat template ends a turn" in shown
    tokenizer = build_tokenizer()
    ends = sorted({tokenizer.eos_token_id, len(tokenizer)})
    teacher = next((tmp_path / "runs" / "cache").glob("teacher-*/generation_config.json"))
    for saved in (found.student / "generation_config.json", teacher):
        assert set(ends) <= set(read(saved)["eos_token_id"])
    # Every test example is asked, however long; the comparison with the teacher says what it saw.
    summary = read(found.folder / "data" / "summary.json")
    assert summary["train"]["dropped"] and summary["train"]["cut"] == {}
    assert summary["test"]["dropped"] == {} and summary["test"]["cut"]["prompts"] > 0
    assert f"test: {summary['test']['cut']['prompts']} of 10 prompts cut" in shown
    evaluation = found.folder / "arms" / "cpd" / "evaluation"
    assert read(evaluation / "scores.json")["num_examples"] == 10
    assert read(evaluation / "agreement.json")["num_examples"] == 10
    assert "cut: prompts" in found.report.read_text()
