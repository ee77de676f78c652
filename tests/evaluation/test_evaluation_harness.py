"""lm-evaluation-harness with a model in memory; where it is installed, against our own suites."""

import json
import sys

import pytest

from conftest_models import tiny_model
from tutelage.data.arithmetic import build_tokenizer
from tutelage.errors import ConfigError, DataError, MissingDependencyError, ModelError
from tutelage.evaluation import Suite, bound_metrics, evaluate_suite, make_suite
from tutelage.evaluation.harness import Harness
from tutelage.generation import LocalEngine

ASKED = Suite("asked", bound_metrics({"rouge_l": {}}))
TOKENIZER = build_tokenizer()
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
{more}
"""
KINDS = {
    "sums": ("multiple_choice", """
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc}, {metric: acc_norm}, {metric: acc_bytes}]
"""),
    "words": ("generate_until", """
doc_to_text: "{{question}}"
doc_to_target: "{{choices[answer]}}"
generation_kwargs: {until: ["3"], max_gen_toks: 4}
metric_list: [{metric: exact_match}]
"""),
    "text": ("loglikelihood_rolling", """
doc_to_text: ""
doc_to_target: "{{question}}"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
"""),
}  # fmt: skip
ROWS = [
    {"question": f"{a} + {b}", "text": f"{a} + {b}", "answer": (a + b) % 3,
     "choices": [f"{a + b}", f"{a * b} + 1 + 10", "12345"]}
    for a in range(1, 4) for b in range(1, 4)
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for name, (kind, more) in KINDS.items():
        text = TASK.format(name=name, data=tmp_path / "rows.jsonl", kind=kind, more=more)
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def found_by(kind, options, count=None):
    suite = make_suite(kind, options, ASKED)
    questions = suite.questions()[:count]
    engine = LocalEngine(tiny_model(seed=3, vocab=len(TOKENIZER)), TOKENIZER)
    return evaluate_suite(engine, questions, suite)


def test_likelihoods_that_are_no_numbers_are_refused():
    harness = Harness("any")
    logged = {"filter": "none", "metrics": ["acc"], "acc": 1.0, "arguments": [("q", " 1")] * 2}
    number = [{**logged, "filtered_resps": [(-1.0, True), (-2.0, False)]}]
    assert harness.conclude([], [number]).scores == {"acc": [1.0]}
    none = [{**logged, "filtered_resps": [(float("nan"), True), (float("nan"), False)]}]
    with pytest.raises(ModelError, match="no numbers"):
        harness.conclude([], [number, none])


@pytest.mark.slow
def test_likelihoods_are_those_of_our_own_suite(folder):
    pytest.importorskip("lm_eval")
    theirs = found_by("lm-eval", {"task": "sums", "include_path": str(folder)})
    ours = found_by("choice", {"data": str(folder / "rows.jsonl"), "way": "likelihood"})
    for metric in ("acc", "acc_norm", "acc_bytes"):
        assert theirs.scores[metric].mean == ours.scores[metric].mean
        values = [list(one.example_scores[metric].values()) for one in (theirs, ours)]
        assert values[0] == values[1], "question by question"
    assert len(theirs.questions) == len(ours.questions) == len(ROWS)
    assert 0 < theirs.scores["acc"].mean < 1
    assert {question.group for question in theirs.questions} == {"sums"}


@pytest.mark.slow
def test_bits_of_held_out_text_are_those_of_our_own_suite(folder):
    pytest.importorskip("lm_eval")
    theirs = found_by("lm-eval", {"task": "text", "include_path": str(folder)})
    ours = found_by("perplexity", {"data": str(folder / "rows.jsonl")})
    score = theirs.scores["bits_per_byte"].mean
    assert score == pytest.approx(ours.scores["bits_per_byte"].mean, rel=1e-5)
    assert theirs.scores["word_perplexity"].mean > 1


@pytest.mark.slow
def test_some_questions_of_a_task_with_generated_answers(folder):
    pytest.importorskip("lm_eval")
    whole = found_by("lm-eval", {"task": "words", "include_path": str(folder)})
    some = found_by("lm-eval", {"task": "words", "include_path": str(folder)}, count=2)
    assert whole.samples[0][:2] == some.samples[0]
    assert len({question.id for question in whole.questions}) == len(ROWS)
    assert list(whole.scores) == ["exact_match"]


@pytest.mark.slow
def test_mistakes_in_words(folder):
    pytest.importorskip("lm_eval")
    with pytest.raises(ConfigError, match=r"no task 'sum' in .*Did you mean 'sums'"):
        found_by("lm-eval", {"task": "sum", "include_path": str(folder)})
    with pytest.raises(ConfigError, match="the tokenizer has none"):
        found_by("lm-eval", {"task": "sums", "include_path": str(folder), "chat": True})
    (folder / "rows.jsonl").unlink()
    with pytest.raises(DataError, match="'sums' cannot be loaded"):
        found_by("lm-eval", {"task": "sums", "include_path": str(folder)})


def test_the_package_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'tutelage\[lm-eval\]'"):
        make_suite("lm-eval", {"task": "sums"}, ASKED).questions()


def test_a_task_is_named_after_a_colon():
    from tutelage.recipe import load_recipe

    tree = {"name": "x", "evaluation": {"suites": ["lm-eval:mmlu/law", {"kind": "lm-eval:arc"}]}}
    law, arc = load_recipe(tree, partial=True).recipe.evaluation.suites
    assert (law.kind, law.options["task"], law.called) == (
        "lm-eval",
        "mmlu/law",
        "lm-eval-mmlu_law",
    )
    assert arc.called == "lm-eval-arc"
    with pytest.raises(ConfigError, match="'gsm8k' has no option 'task'"):
        load_recipe({"name": "x", "evaluation": {"suites": ["gsm8k:x"]}}, partial=True)
