"""Evaluation from prompts to files, with a model whose answers are known or random."""

import dataclasses
import json
from collections import Counter

import datasets
import numpy as np
import pytest

from conftest_models import tiny_model
from tutelage.data.arithmetic import arithmetic_examples, build_tokenizer
from tutelage.data.lists import answer_distribution
from tutelage.errors import ConfigError, DataError
from tutelage.evaluation import (
    Suite,
    bound_metrics,
    evaluate_suite,
    make_suite,
    questions_of,
    save_evaluation,
)
from tutelage.generation import Answer, GenerationSettings, LocalEngine
from tutelage.report import load_evaluation
from tutelage.statistics import bootstrap
from tutelage.verifiers import rouge_l

TOKENIZER = build_tokenizer()
EXACT = {"exact_match": {"after": "#"}}
SAMPLED = GenerationSettings(max_new_tokens=8, sampling_temperature=1.0)


def arithmetic_rows(count=12, levels=(1, 2)):
    rows = []
    for example in arithmetic_examples("test", count, levels=levels):
        prompt = TOKENIZER.encode(example.fields["prompt"])
        rows.append(
            {
                "id": example.id,
                "input_ids": prompt + TOKENIZER.encode(example.completion) + [1],
                "num_prompt_tokens": len(prompt),
                "prompt": example.fields["prompt"],
                "completion": example.completion,
                "references": list(example.references),
                "group": example.group,
            }
        )
    return datasets.Dataset.from_list(rows)


@pytest.fixture
def rows():
    return arithmetic_rows()


@pytest.fixture
def model():
    return tiny_model(seed=1, vocab=len(TOKENIZER))


def suite_of(metrics, generation=None, seeds=(10,)):
    generation = generation or GenerationSettings()
    return Suite("test", bound_metrics(metrics), generation=generation, seeds=seeds)


class Scripted:
    """With seed s, the first s examples are answered rightly."""

    chats = False

    def __init__(self, rows):
        self.calls = []
        self.right = {
            tuple(tokens[:length]): (i, completion)
            for i, (tokens, length, completion) in enumerate(
                zip(rows["input_ids"], rows["num_prompt_tokens"], rows["completion"], strict=True)
            )
        }

    def answer(self, prompts, settings, *, seed=0, progress=None, on_answer=None):
        self.calls.append((list(seed), prompts))
        progress(len(prompts), len(prompts))
        found = []
        for prompt, one in zip(prompts, seed, strict=True):
            place, completion = self.right[tuple(prompt)]
            right = place < one
            found.append(Answer(completion, 3, "stop") if right else Answer("#x", 3, "length"))
        for place, answer in enumerate(found):
            on_answer(place, answer)
        return found


@pytest.fixture
def scripted(rows):
    return Scripted(rows)


def test_scores_by_seed_group_and_example(scripted, rows):
    settings = suite_of(EXACT, SAMPLED, seeds=(12, 6, 0))
    calls = []
    found = evaluate_suite(scripted, questions_of(rows), settings, lambda *call: calls.append(call))
    score = found.scores["exact_match"]
    assert score.seeds == (1.0, 0.5, 0.0)
    assert score.mean == pytest.approx(0.5)
    by_example = np.array([2 / 3] * 6 + [1 / 3] * 6)
    assert found.example_scores["exact_match"] == pytest.approx(
        dict(zip(rows["id"], by_example, strict=True))
    )
    assert set(found.answer_scores["exact_match"].values()) == {1.0}, "the first seed's own"
    expected = bootstrap(by_example, resamples=1000)
    assert score.interval == (expected.low, expected.high), "as in every scores.json so far"
    groups = np.array(rows["group"])
    assert score.groups == pytest.approx({g: by_example[groups == g].mean() for g in ("1", "2")})
    assert found.evaluation.num_examples == 12
    assert found.evaluation.truncated == pytest.approx(0.5)
    assert found.evaluation.answers[rows[11]["id"]] == rows[11]["completion"]  # the first seed's
    assert calls == [(0, 36), (36, 36)]


def test_prompts_stop_before_the_answer(scripted, rows):
    evaluate_suite(scripted, questions_of(rows), suite_of(EXACT))
    asked = {TOKENIZER.decode(tokens) for tokens in scripted.calls[0][1]}
    assert asked == set(rows["prompt"])


def test_greedy_is_one_pass(scripted, rows):
    settings = suite_of(EXACT, GenerationSettings(), seeds=(6, 12))
    found = evaluate_suite(scripted, questions_of(rows), settings)
    assert [set(seeds) for seeds, _ in scripted.calls] == [{6}]
    assert found.scores["exact_match"].seeds == (0.5,)


def test_no_groups(scripted, rows):
    bare = rows.remove_columns("group").add_column("group", [""] * len(rows))
    found = evaluate_suite(scripted, questions_of(bare), suite_of(EXACT))
    assert found.scores["exact_match"].groups == {}


def test_several_metrics_with_a_real_model(model, rows):
    metrics = {"rouge_l": {"stemmer": False}, "exact_match": {"after": "#"}, "number": {}}
    settings = suite_of(metrics, SAMPLED, seeds=(1, 2))
    found = evaluate_suite(LocalEngine(model, TOKENIZER), questions_of(rows), settings)
    assert list(found.scores) == list(metrics)
    for name, score in found.scores.items():
        assert len(score.seeds) == 2
        assert score.mean == pytest.approx(np.mean(score.seeds))
        assert score.interval[0] <= score.mean <= score.interval[1]
        assert score.mean == pytest.approx(np.mean(list(found.example_scores[name].values())))
    assert found == evaluate_suite(LocalEngine(model, TOKENIZER), questions_of(rows), settings)


def test_files_and_back(model, rows, tmp_path):
    settings = suite_of({"rouge_l": {}, **EXACT}, SAMPLED, seeds=(1, 2))
    found = evaluate_suite(LocalEngine(model, TOKENIZER), questions_of(rows), settings)
    save_evaluation(tmp_path / "e", found)
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == [
        "answers.jsonl",
        "scores.json",
    ]
    scores = json.loads((tmp_path / "e" / "scores.json").read_text())
    assert list(scores) == ["num_examples", "truncated", "scores"]
    assert list(scores["scores"]["rouge_l"]) == ["mean", "seeds", "interval", "groups"]
    answers = [json.loads(line) for line in (tmp_path / "e" / "answers.jsonl").open()]
    assert [row["id"] for row in answers] == list(rows["id"])
    columns = ["id", "question", "prompt", "reference", "answer", "answer_scores", "group"]
    assert list(answers[0]) == [*columns, "cluster", "scores", "samples"]
    samples = answers[3]["samples"]
    assert [sample["seed"] for sample in samples] == [1, 2]
    assert samples[0]["answer"] == answers[3]["answer"]
    means = np.mean([sample["scores"]["rouge_l"] for sample in samples])
    assert means == pytest.approx(answers[3]["scores"]["rouge_l"])
    assert answers[0]["reference"] == rows[0]["references"][0]
    assert answers[3]["scores"]["rouge_l"] == found.example_scores["rouge_l"][rows[3]["id"]]
    score = rouge_l(answers[3]["answer"], rows[3]["references"])
    assert answers[3]["answer_scores"]["rouge_l"] == score, "of the text in the same row"


def test_what_is_saved_is_what_the_report_reads(scripted, rows, tmp_path):
    settings = suite_of(EXACT, SAMPLED, seeds=(12, 6))
    found = evaluate_suite(scripted, questions_of(rows), settings)
    save_evaluation(tmp_path, found)
    read = load_evaluation(tmp_path)
    assert read is not None
    assert read.scores["exact_match"]["mean"] == 0.75
    assert read.num_examples == 12 and read.truncated == found.evaluation.truncated
    assert {i: row["answer"] for i, row in read.answers.items()} == found.evaluation.answers
    assert read.values("exact_match") == found.example_scores["exact_match"]
    last = rows[11]["id"]
    assert read.answer_score(last, "exact_match") == 1.0, "of the first seed, whose text it is"


def test_files_of_older_versions_have_the_means_alone(scripted, rows, tmp_path):
    found = evaluate_suite(scripted, questions_of(rows), suite_of(EXACT, SAMPLED, (12, 0)))
    save_evaluation(tmp_path, found)
    path = tmp_path / "answers.jsonl"
    answers = [json.loads(line) for line in path.open()]
    for row in answers:
        del row["answer_scores"]
    path.write_text("".join(json.dumps(row) + "\n" for row in answers))
    assert load_evaluation(tmp_path).answer_score(rows[11]["id"], "exact_match") == 0.5


def test_line_separators_in_an_answer_survive(scripted, rows, tmp_path):
    text = "one\u2028two\x85three\nfour \u4f60\u597d"
    scripted.answer = lambda prompts, *args, **more: [Answer(text, 3, "stop")] * len(prompts)
    found = evaluate_suite(scripted, questions_of(rows), suite_of(EXACT))
    save_evaluation(tmp_path, found)
    assert {row["answer"] for row in load_evaluation(tmp_path).answers.values()} == {text}


def test_one_example_has_an_interval_without_width_in_its_file(scripted, rows, tmp_path):
    one = rows.select([0])
    scripted.answer = lambda prompts, *args, **more: [Answer("a word", 3, "stop")] * len(prompts)
    words = [dataclasses.replace(questions_of(one)[0], references=("a word or two",))]
    save_evaluation(tmp_path, evaluate_suite(scripted, words, suite_of({"rouge_l": {}})))
    score = load_evaluation(tmp_path).scores["rouge_l"]
    assert 0 < score["mean"] < 1 and score["interval"] == [score["mean"]] * 2


def test_where_all_are_right_or_wrong_the_interval_is_that_of_wilson(scripted, rows, tmp_path):
    scripted.answer = lambda prompts, *args, **more: [Answer("", 3, "stop")] * len(prompts)
    found = evaluate_suite(scripted, questions_of(rows), suite_of(EXACT))
    low, high = found.scores["exact_match"].interval
    n, z = len(rows), 1.959964
    assert low == 0.0 and high == pytest.approx(z * z / (n + z * z), abs=1e-6)
    save_evaluation(tmp_path, found)
    assert load_evaluation(tmp_path).scores["exact_match"]["interval"] == [low, high]
    # Questions of one passage are not so many: nothing is made of them.
    same = [dataclasses.replace(q, cluster="one") for q in questions_of(rows)]
    assert evaluate_suite(scripted, same, suite_of(EXACT)).scores["exact_match"].interval == (0, 0)


def test_answers_without_room_are_counted(model, rows, tmp_path):
    (question,) = questions_of(rows.select([0]))
    room = len(question.prompt)
    settings = GenerationSettings(max_new_tokens=4, max_total_tokens=room)
    full = evaluate_suite(LocalEngine(model, TOKENIZER), [question], suite_of(EXACT, settings))
    assert full.without_room == 1 and full.evaluation.truncated == 1.0
    save_evaluation(tmp_path, full)
    assert json.loads((tmp_path / "scores.json").read_text())["without_room"] == 1
    settings = GenerationSettings(max_new_tokens=4, max_total_tokens=room + 1)
    some = evaluate_suite(LocalEngine(model, TOKENIZER), [question], suite_of(EXACT, settings))
    assert some.without_room == 0


def test_unusable_references_are_found_before_generation(scripted, rows):
    bad = rows.map(lambda row, i: {"references": ["none"] if i == 5 else ["7"]}, with_indices=True)
    with pytest.raises(DataError, match=f"Metric 'number', example '{rows[5]['id']}'"):
        evaluate_suite(scripted, questions_of(bad), suite_of({"number": {}}))
    assert scripted.calls == []


def test_rows_that_cannot_be_evaluated(scripted, rows):
    with pytest.raises(DataError, match="no rows"):
        evaluate_suite(scripted, questions_of(rows.select([])), suite_of(EXACT))
    with pytest.raises(DataError, match="1 example ids repeat"):
        evaluate_suite(scripted, questions_of(rows.select([0, 1, 0])), suite_of(EXACT))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": {}}, "at least one metric"),
        ({"metrics": EXACT, "seeds": ()}, "at least one metric and one seed"),
        ({"metrics": {"exact": {}}}, "Did you mean 'exact_match'"),
        ({"metrics": {"number": {"after": "#"}}}, "has no option 'after'"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ConfigError, match=message):
        suite_of(**options)


def test_sums_beyond_the_data_are_made_and_always_the_same():
    asked = suite_of(EXACT, SAMPLED)
    suite = make_suite("arithmetic", {"levels": [6, 7], "count": 9}, asked, "long")
    questions = suite.questions()
    assert suite.name == "long" and suite.generation.max_new_tokens == 96
    assert suite.generation.sampling_temperature == SAMPLED.sampling_temperature
    assert sorted({q.group for q in questions}) == ["6", "7"] and len(questions) == 9
    for question in questions:
        total = sum(int(number[::-1]) for number in question.prompt.rstrip("?").split("+"))
        assert question.references == (str(total)[::-1],)
        assert question.prompt.count("+") == int(question.group)
    again = make_suite("arithmetic", {"levels": [6, 7], "count": 9}, asked)
    assert again.questions() == questions
    assert make_suite("arithmetic", {"seed": 1}, asked).questions()[:3] != questions[:3]


def test_lists_beyond_the_data_are_made_and_every_right_answer_is_accepted():
    asked = suite_of(EXACT, SAMPLED)
    options = {"levels": [5, 6], "lengths": [9], "count": 12}
    suite = make_suite("lists", options, asked, "long")
    questions = suite.questions()
    assert suite.name == "long" and suite.generation.max_new_tokens == 128
    assert Counter(q.group for q in questions) == {"5": 6, "6": 6}
    for question in questions:
        steps, items = question.prompt.rstrip("?").split(":")
        assert len(items) == 9 and len(steps.split(",")) == int(question.group)
        assert set(question.references) == set(answer_distribution(question.prompt))
    assert any(len(q.references) > 1 for q in questions)
    assert make_suite("lists", options, asked).questions() == questions
    with pytest.raises(ConfigError, match="Choose from 2 to 9"):
        make_suite("lists", {"lengths": [1]}, asked).questions()


def test_a_file_of_questions_is_read_once(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "1?", "completion": "one"}\n')
    suite = make_suite("file", {"data": str(path)}, suite_of(EXACT))
    questions = suite.questions()
    path.write_text('{"prompt": "2?", "completion": "two"}\n')
    assert suite.questions() == questions


NAMES = {"prompt": "text", "completion": "code"}


@pytest.mark.parametrize(
    ("columns", "options", "recipe", "asked"),
    [
        (("text", "code"), {"columns": NAMES}, {}, ("t", "k")),
        (("text", "code"), {}, NAMES, ("t", "k")),
        (("text", "code", "prompt", "completion"), {}, NAMES, ("t", "k")),
        (("text", "code", "prompt", "completion"), {"columns": {}}, NAMES, ("p", "c")),
        (("prompt", "completion", "text"), {}, NAMES, ("p", "c")),
        (("text", "prompt", "completion"), {}, {}, ("p", "c")),
    ],
)
@pytest.mark.parametrize("kind", ["file", "perplexity"])
def test_columns_of_a_file_are_named_as_those_of_the_data(
    tmp_path, kind, columns, options, recipe, asked
):
    values = {"text": "t", "code": "k", "prompt": "p", "completion": "c"}
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({name: values[name] for name in columns}))
    general = dataclasses.replace(suite_of(EXACT), columns=recipe)
    question = make_suite(kind, {"data": str(path), **options}, general).questions()[0]
    unnamed = "code" not in columns or options.get("columns") == {}
    if kind == "perplexity" and unnamed:
        asked = ("", "t")  # a text of its own
    assert (question.prompt.strip(), *question.references) == asked


def test_columns_that_are_missing_are_said(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"txt": "t", "code": "k"}\n')
    data, general = {"data": str(path)}, dataclasses.replace(suite_of(EXACT), columns=NAMES)
    with pytest.raises(
        DataError, match=r"no column 'text'.*\(data\.columns\)\. Did you mean 'txt'"
    ):
        make_suite("file", data, general).questions()
    with pytest.raises(DataError, match=r"'txxt'.*`columns` of .* The columns are txt, code\."):
        make_suite("perplexity", {**data, "columns": {"prompt": "txxt"}}, general).questions()
    with pytest.raises(
        DataError, match=r"Found: txt, code\..*which data, a source of them or a su"
    ):
        make_suite("file", data, suite_of(EXACT)).questions()
