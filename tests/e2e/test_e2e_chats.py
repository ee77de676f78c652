"""A run on a chat format whose turns end with another token than texts, and long test examples."""

import ast
import json

import datasets
import pytest
from killing import small_recipe

from conftest_models import tiny_model
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ModelError
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


# As Qwen 3 does: an answer without thoughts is opened with an empty block of them.
THINKING = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<a>{% if '</think>' not in m.content %}"
    "<think></think>{% endif %}{{ m.content }}<end>{% else %}{{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)


@pytest.fixture
def thinking_recipe(recipe, tmp_path):
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["<a>", "<think>", "</think>", "<end>"])
    tokenizer.chat_template = THINKING
    for name, seed in (("teacher", 2), ("student", 1)):
        tiny_model(vocab=len(tokenizer), seed=seed).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    think = "<think>1+1=2</think>"
    data = {}
    for split, thoughts in (("train", think), ("test", "")):
        rows = [{"prompt": f"{n}+{n}=", "completion": f"{thoughts}{2 * n}"} for n in range(9)]
        rows[8]["completion"] = "<think>8" if split == "train" else "16"
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        data[split] = str(tmp_path / f"{split}.jsonl")
    supervision = {"max_new_tokens": 6, "sampling_temperature": 1.5, "precision": "float32"}
    return {
        **recipe,
        "extends": "seqkd",
        "supervision": supervision,
        "data": data,
        "teacher": {"model": str(tmp_path / "teacher")},
        "evaluation": {**recipe["evaluation"], "teacher": False, "metrics": {"exact_match": {}}},
        "curriculum": {"stages": 1, "passes": 1},
    }


def test_a_student_learns_what_its_thinking_teacher_wrote_after_what_that_was_asked(
    thinking_recipe, tmp_path, capsys
):
    found = run(thinking_recipe, quiet=False)
    shown = " ".join(capsys.readouterr().err.split())
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(["<a>", "<think>", "</think>", "<end>"])
    arm = found.folder / "arms" / "seqkd"
    rows = datasets.load_from_disk(str(arm / "texts" / "rows"))
    store = next((tmp_path / "runs" / "cache").glob("texts-*/texts.jsonl"))
    lines = [json.loads(line)["texts"] for line in store.read_text().splitlines()]
    written = {text["id"]: text for line in lines for text in line}
    assert len(written) == 8 and any(text["truncated"] for text in written.values())
    for row in rows:
        text = written[row["id"]]
        end = [] if text["truncated"] else [tokenizer.convert_tokens_to_ids("<end>")]
        assert row["prompt"].endswith("=<a>")
        asked = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
        assert row["input_ids"] == asked + text["tokens"] + end
        assert row["labels"] == [-100] * len(asked) + text["tokens"] + end
    # Test answers have no thoughts, and yet the student is asked as it was trained.
    test = datasets.load_from_disk(str(found.folder / "data" / "test"))
    assert all(prompt.endswith("=<a>") for prompt in test["prompt"])
    assert "test: 9 of 9 prompts open the answer as the training data do" in shown
    assert "train: 1 of 9 examples dropped: thoughts without end" in shown
    counts = read(arm / "texts" / "summary.json")["teacher"]
    cut = sum(text["truncated"] for text in written.values())
    assert counts["truncated"] == cut and counts["asked"] == 8
    assert f"{cut} of 8 answers of teacher were cut by supervision.max_new_tokens=6" in shown
    report = found.report.read_text()
    assert "Answers that teachers wrote" in report and "seqkd, teacher" in report
    assert not (arm / "evaluation" / "agreement.json").exists()


def test_the_cards_code_asks_as_was_trained(thinking_recipe, tmp_path):
    rows = [{"prompt": f"{n}+{n}=", "completion": str(2 * n)} for n in range(9)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = run({**thinking_recipe, "extends": "sft", "supervision": {}})
    card = (found.student / "README.md").read_text()
    code = card.split("```python")[1].split("```")[0]
    ast.parse(code)
    asked = code.split("text = ")[1].split("inputs =")[0].replace("prompt}", "'1+1='}")
    tokenizer = build_tokenizer()
    tokenizer.chat_template = THINKING
    test = datasets.load_from_disk(str(found.folder / "data" / "test"))
    assert eval(asked, {"tokenizer": tokenizer}) == test["prompt"][1]


def test_a_base_student_learns_from_an_instruct_teacher_of_its_family(recipe, tmp_path, capsys):
    """Their texts end with other tokens, as in the Qwen family; their turns do not."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end>"]})
    tokenizer.chat_template, tokenizer.eos_token = CHAT, "<end>"
    tokenizer.save_pretrained(tmp_path / "teacher")
    chats = {**recipe, "teacher": {"model": str(tmp_path / "teacher")}, "extends": "kld"}
    found = run(chats, quiet=False)
    shown = " ".join(capsys.readouterr().err.split())
    assert "the end of a turn in chats, which is what is learned, is one for both" in shown
    rows = datasets.load_from_disk(str(found.folder / "data" / "train"))
    assert {row["labels"][-1] for row in rows} == {len(build_tokenizer())}
    assert len(build_tokenizer()) in read(found.student / "generation_config.json")["eos_token_id"]
    assert (found.folder / "arms" / "kld" / "evaluation" / "agreement.json").exists()
    # Elsewhere answers end as texts do, and what ends them is learned from a teacher that goes on.
    rows = [{"prompt": f"{n}+{n}=", "completion": str(2 * n)} for n in range(9)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = {"train": str(tmp_path / "rows.jsonl"), "template": "plain"}
    with pytest.raises(ModelError, match=r"end a text with different tokens: '<end>' \(\d+\) and"):
        run({**chats, "data": plain})
