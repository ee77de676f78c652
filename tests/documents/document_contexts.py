"""What the pages take for granted: models, data and questions, all of them tiny."""

import json
import shutil
from pathlib import Path

from document_blocks import ROOT

ASSETS = ROOT / "src/tutelage/assets"

QUESTIONS = {
    "questions.jsonl": [{"prompt": "57+36=", "completion": "39#39"}],
    "dolly.jsonl": [{"instruction": "Name a sum.", "input": "", "output": "1+1=2"}],
    "gsm8k/test.jsonl": [{"question": "What is 1 and 2?", "answer": "1+2=3\n#### 3"}],
    "gsm8k/train.jsonl": [
        {"question": f"What is 1 and {n}?", "answer": f"#### {n + 1}"} for n in range(9)
    ],
    "math500.jsonl": [{"problem": "1+1?", "solution": r"\boxed{2}", "answer": "2"}],
    "ARC-Challenge-Test.jsonl": [
        {"id": "a", "question": {"stem": "1+1?", "choices": [
            {"text": "2", "label": "A"}, {"text": "3", "label": "B"}]}, "answerKey": "A"}
    ],
    "dev.json": [{"qid": "a", "question": "Is 1 odd?", "answer": True, "facts": ["One is."]}],
    "held_out.jsonl": [{"text": "57+36=831"}],
    "my_suite.jsonl": [{"question": "1+1", "answer": "2"}],
}  # fmt: skip


def stand_ins(folder: Path) -> None:
    """Models under the names of the pages, and a file for each suite and recipe that is shown."""
    for name in ("path/to/student", "models/small", "models/middle"):
        shutil.copytree(ASSETS / "arithmetic-student", folder / name)
    for name in ("path/to/teacher", "models/teacher", "models/large"):
        shutil.copytree(ASSETS / "arithmetic-weak", folder / name)
    for name, rows in QUESTIONS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(json.dumps(rows) if path.suffix == ".json" else lines)
    solved = [{"problem": f"1+{n}?", "solution": rf"\boxed{{{n + 1}}}"} for n in range(5)]
    (folder / "MATH/train/algebra").mkdir(parents=True)
    for number, row in enumerate(solved):
        (folder / f"MATH/train/algebra/{number}.json").write_text(json.dumps(row))
    answers(folder / "answers.jsonl")
    shutil.copy(folder / "answers.jsonl", folder / "questions_and_answers.jsonl")
    (folder / "studies").symlink_to(ROOT / "studies")
    for name in ("mine.yaml", "my_recipe.yaml"):
        (folder / name).write_text(MINE)


MINE = """
extends: kld_states
teacher: {model: path/to/teacher}
student: {model: path/to/student}
data: {train: answers.jsonl, test_share: 0.1, validation_share: 0.1}
evaluation: {metrics: {exact_match: {after: "#"}}}
"""


def answers(path: Path) -> None:
    """Sixty sums with their answers."""
    from tutelage.data.arithmetic import arithmetic_examples

    rows = [
        {"id": e.id, "prompt": e.fields["prompt"], "completion": e.completion}
        for e in arithmetic_examples("train", 60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def plugin_names(folder: Path) -> dict:
    """What docs/plugin.md takes for granted: a model, rows, and a file of scores."""
    import datasets

    from tutelage.data.arithmetic import arithmetic_examples
    from tutelage.models import load_model, load_tokenizer

    examples = arithmetic_examples("train", 64)
    rows = [
        {"id": e.id, "prompt": e.fields["prompt"], "completion": e.completion} for e in examples
    ]
    scores = "".join(f"{e.id},{len(e.completion)}\n" for e in examples)
    (folder / "difficulty.csv").write_text("id,score\n" + scores)
    name = "embedded:arithmetic-student"
    return {
        "rows": datasets.Dataset.from_list(rows),
        "model": load_model(name),
        "tokenizer": load_tokenizer(name),
    }


def store_names(folder: Path) -> dict:
    """What docs/store.md takes for granted: two models and tokenized rows."""
    from conftest_models import VOCAB, random_rows, tiny_model
    from tutelage import DistillConfig

    return {
        "teacher": tiny_model(seed=2, hidden=24).eval(),
        "student": tiny_model(seed=1),
        "rows": random_rows(),
        "vocab_size": VOCAB,
        "config": DistillConfig(str(folder / "out"), max_steps=2, use_cpu=True, report_to=[]),
        "plan": None,
    }


def evaluation_names(folder: Path) -> dict:
    """A model of the embedded task, a file of questions, and two arms that were asked them."""
    from tutelage.evaluation import evaluate, save_evaluation
    from tutelage.models import load_model, load_tokenizer

    name, questions = "embedded:arithmetic-student", folder / "questions.jsonl"
    questions.write_text('{"prompt": "57+36=", "completion": "39#39"}\n')
    names = {"model": load_model(name), "tokenizer": load_tokenizer(name)}
    found = evaluate(**names, suite="file", data=questions)
    for arm in ("cpd", "kld"):
        save_evaluation(folder / "runs/mine/arms" / arm / "evaluation", found)
    return names


def first_run_names(folder: Path) -> dict:
    """The student of the run that docs/first_run.md shows: here it is as it was before."""
    student = folder / "runs/quickstart-6cfdc6d0/arms/kld_states/student"
    shutil.copytree(ASSETS / "arithmetic-student", student)
    return {}


NAMES = {
    "first_run.md": first_run_names,
    "evaluation.md": evaluation_names,
    "plugin.md": plugin_names,
    "store.md": store_names,
}
