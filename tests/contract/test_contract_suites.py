"""What every suite keeps: its files as they are distributed, its ids, its scores, its messages."""

import json
from dataclasses import dataclass, field

import pytest

from tutelage.errors import SandboxError, TutelageError
from tutelage.evaluation import (
    SUITES,
    Suite,
    bound_metrics,
    evaluate_suite,
    make_suite,
    save_evaluation,
)
from tutelage.evaluation.question import check_questions
from tutelage.evaluation.sandbox import find_backend
from tutelage.generation import Answer, Likelihood
from tutelage.generation.engine import seeds_of

ASKED = Suite("asked", bound_metrics({"rouge_l": {}}))

GSM8K = [
    {"question": f"A robe takes {n} bolts and half that much. How many in total?",
     "answer": f"It takes {n}/2=<<{n}/2={n // 2}>>{n // 2} bolts.\n#### {n + n // 2:,}"}
    for n in (2, 4, 6, 2000)
]  # fmt: skip
ARC = [
    {"id": f"Mercury_{n}", "question": {"stem": f"What is {n} times two?", "choices": [
        {"text": str(2 * n), "label": "A"}, {"text": str(n), "label": "B"},
        {"text": f"{n} squared", "label": "C"}]}, "answerKey": "A"}
    for n in (3, 4, 5)
] + [
    {"id": "NYSEDREGENTS_1", "question": {"stem": "Which is wet?", "choices": [
        {"text": "fire", "label": "1"}, {"text": "water", "label": "2"}]}, "answerKey": "2"}
]  # fmt: skip
DOLLY = [
    {"topic": "open_qa", "instruction": "Name the capital of France.", "input": "",
     "output": "The capital of France is Paris.", "prompt": "### Instruction:\nFrance?\n"},
    {"topic": "closed_qa", "instruction": "Who wrote it?", "input": "Emma, by Jane Austen",
     "output": ["Jane Austen wrote it.", "Jane Austen"], "prompt": "### Instruction:\nEmma?\n"},
    {"instruction": "List two colours.", "output": "Red and blue", "category": "generic"},
]  # fmt: skip
STRATEGYQA = [
    {"qid": f"e0044a7b{n}", "term": "Llama", "description": "animal", "answer": n % 2 == 0,
     "question": f"Would llama {n} be even?", "facts": ["A llama is one.", "Two is even"],
     "decomposition": [], "evidence": []}
    for n in range(4)
]  # fmt: skip
MATH = [
    {"problem": "What is $1+1$?", "level": "Level 1", "type": "Algebra",
     "solution": r"We add: $1+1=\boxed{2}$."},
    {"problem": "Halve one.", "level": "Level 2", "type": "Prealgebra",
     "solution": r"First \boxed{1}, then $\boxed{\frac{1}{2}}$."},
    {"problem": "Root of 12?", "level": "Level 3", "type": "Algebra",
     "solution": r"It is $\boxed{2\sqrt{3}}$."},
]  # fmt: skip
HUMANEVAL = [
    {"task_id": f"HumanEval/{n}", "entry_point": f"add_{n}",
     "prompt": f'def add_{n}(x: int) -> int:\n    """ Adds {n}. """\n',
     "canonical_solution": f"    return x + {n}\n",
     "test": f"def check(candidate):\n    assert candidate(1) == {1 + n}\n"}
    for n in range(3)
]  # fmt: skip
MBPP = [
    {"task_id": n, "text": f"Write a function to add {n}.", "test_setup_code": "",
     "code": f"def add_{n}(x):\r\n    return x + {n}", "challenge_test_list": [],
     "test_list": [f"assert add_{n}(1) == {n + 1}"]}
    for n in (11, 12, 510)
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A tiny file of a suite, and what is right and wrong there.

    Attributes:
        kind: the row of the table.
        name: of the file.
        rows: of the file.
        right: from a question to an answer that deserves 1.
        wrong: an answer that deserves 0.
        options: of the suite.
        wanted: what a message about columns names.
    """

    kind: str
    name: str
    rows: list
    right: object
    wrong: str = "I know of nothing."
    options: dict = field(default_factory=dict)
    wanted: tuple = ("question", "answer")

    def write(self, folder, rows=None):
        path = folder / self.name
        rows = self.rows if rows is None else rows
        if path.suffix == ".json":
            path.write_text(json.dumps(rows, indent=4))
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def suite(self, path, **options):
        return make_suite(self.kind, {"data": str(path), **self.options, **options}, ASKED)


def told(question):
    return f"Let me see. The answer is {question.references[0]}."


CASES = {
    "file": Case(
        "file", "mine.jsonl", [{"prompt": f"{n}?", "completion": f"number {n}"} for n in range(3)],
        lambda question: question.references[0], "?", wanted=("prompt", "completion"),
    ),
    "instruct": Case(
        "instruct", "dolly.jsonl", DOLLY, lambda question: question.references[-1],
        wrong="!", wanted=("instruction", "output"),
    ),
    "gsm8k": Case("gsm8k", "test.jsonl", GSM8K, lambda q: q.references[0], "42",
                  {"shots": 0}),
    "math": Case("math", "test.jsonl", MATH, lambda q: q.references[0], r"\boxed{77}",
                 {"shots": 0}, wanted=("problem", "solution")),
    "math, the 500": Case(
        "math", "math500.jsonl",
        [{**row, "answer": row["solution"].split("{", 1)[1][:-3], "subject": row["type"],
          "unique_id": f"test/algebra/{n}.json"} for n, row in enumerate(MATH[:1])],
        lambda question: f"It is ${question.references[0]}$.", r"\boxed{77}", {"shots": 0},
        wanted=("problem", "solution"),
    ),
    "choice": Case(
        "choice", "mmlu.jsonl",
        [{"question": f"{n} + 1?", "subject": "sums", "choices": [str(n), str(n + 1), "none"],
          "answer": 1} for n in range(3)],
        told, "The answer is C.",
    ),
    "arc": Case("arc", "ARC-Challenge-Test.jsonl", ARC, told, "The answer is E."),
    "arc, likelihood": Case("arc", "ARC-Challenge-Test.jsonl", ARC, None,
                            options={"way": "likelihood"}),
    "strategyqa": Case("strategyqa", "dev.json", STRATEGYQA, told, "Perhaps."),
    "strategyqa, likelihood": Case("strategyqa", "dev.json", STRATEGYQA, None,
                                   options={"way": "likelihood", "facts": True}),
    "humaneval": Case(
        "humaneval", "HumanEval.jsonl", HUMANEVAL,
        lambda q: q.prompt + f"    return x + {q.id.split('/')[1]}",
        options={"execute_code": True}, wanted=("prompt", "entry_point"),
    ),
    "mbpp": Case(
        "mbpp", "mbpp.jsonl", MBPP, lambda q: f"def add_{q.id}(x): return x + {q.id}",
        options={"execute_code": True}, wanted=("code", "text"),
    ),
}  # fmt: skip
ELSEWHERE = {"test", "arithmetic", "lists", "perplexity", "agreement", "lm-eval"}
"""Rows whose questions are not in a file, or that read a model: they have tests of their own."""


class Knowing:
    """An engine that answers as it is told, question by question."""

    def __init__(self, suite, questions, says, *, chats=False):
        self.chats = chats
        self.calls = []
        self._says = {repr(suite.prompt_of(one, self)): says(one) for one in questions}

    def answer(self, prompts, settings, *, seed=0, progress=None, on_answer=None):
        self.calls.append(list(prompts))
        answers = [
            Answer(self._says[repr(prompt)], 1, "stop", seed=own)
            for prompt, own in zip(prompts, seeds_of(seed, prompts), strict=True)
        ]
        for place, answer in enumerate(answers):
            if on_answer is not None:
                on_answer(place, answer)
        return answers

    def log_likelihoods(self, prompts, continuations, settings, *, progress=None):
        self.calls.append(list(prompts))
        return [
            Likelihood(-0.001 if text.strip() == self._says[repr(prompt)] else -500.0, 1, False)
            for prompt, text in zip(prompts, continuations, strict=True)
        ]


@pytest.fixture(params=sorted(CASES))
def case(request):
    if CASES[request.param].kind == "math":
        pytest.importorskip("math_verify")
    if "execute_code" in CASES[request.param].options:
        try:
            find_backend()
        except SandboxError as error:
            pytest.skip(str(error))
    return CASES[request.param]


def test_every_row_has_a_case():
    assert {case.kind for case in CASES.values()} | ELSEWHERE == set(SUITES)


def right_of(case, question):
    """What a perfect model says, or finds likeliest."""
    return case.right(question) if case.right else question.options[question.extra["right"]]


@pytest.mark.parametrize("chats", [False, True], ids=["text", "chat"])
def test_right_wrong_and_nothing(case, chats, tmp_path):
    suite = case.suite(case.write(tmp_path))
    questions = suite.questions()
    check_questions(questions)
    says = {
        1.0: lambda question: right_of(case, question),
        0.0: lambda question: case.wrong if case.right else question.options[
            question.extra["right"] - 1],
    }  # fmt: skip
    for expected, answer in says.items():
        engine = Knowing(suite, questions, answer, chats=chats)
        found = evaluate_suite(engine, questions, suite)
        leading = next(iter(found.scores.values()))
        assert leading.mean == expected
        save_evaluation(tmp_path / str(expected), found)
        kept = [json.loads(line) for line in (tmp_path / str(expected) / "answers.jsonl").open()]
        assert [row["id"] for row in kept] == [question.id for question in questions]
        assert {value for row in kept for value in row["scores"].values()} == {expected}
        assert all(row["prompt"] for row in kept)
    if case.right:
        engine = Knowing(suite, questions, lambda question: "")
        assert next(iter(evaluate_suite(engine, questions, suite).scores.values())).mean == 0.0


def test_ids_and_prompts_do_not_depend_on_the_order_of_the_rows(case, tmp_path):
    forward = case.suite(case.write(tmp_path)).questions()
    backward = case.suite(case.write(tmp_path, case.rows[::-1])).questions()
    assert forward == backward[::-1]
    alone = case.suite(case.write(tmp_path, case.rows[:1])).questions()
    assert alone == forward[:1], "nor on the other rows"


def test_copies_are_told_apart(case, tmp_path):
    rows = [row for row in case.rows if not {"id", "qid", "unique_id", "task_id"} & set(row)]
    if case.kind == "file":
        rows = [{**row, "id": n} for n, row in enumerate(rows)]
    if not rows:
        pytest.skip("its files have ids of their own")
    questions = case.suite(case.write(tmp_path, [*rows, rows[0]] if case.kind != "file" else rows))
    check_questions(questions.questions())


def test_wrong_columns_are_told_once_with_what_is_wanted_what_is_there_and_where(case, tmp_path):
    path = case.write(tmp_path, [*case.rows, {"foo": 1, "bar": "x"}])
    with pytest.raises(TutelageError) as caught:
        case.suite(path).questions()
    message = str(caught.value)
    assert f"'{path}'" in message and str(len(case.rows) + 1) in message
    for word in (*case.wanted, "foo, bar"):
        assert word in message


def test_an_empty_column_is_told_with_its_place(case, tmp_path):
    column = next(name for name in case.wanted if name in case.rows[0])
    path = case.write(tmp_path, [{**case.rows[0], column: ""}])
    with pytest.raises(TutelageError, match=r"'.*'.*1.*"):
        case.suite(path).questions()


def test_a_limit_takes_the_first_ones(case, tmp_path):
    import dataclasses

    suite = case.suite(case.write(tmp_path))
    limited = dataclasses.replace(suite, limit=1)
    assert limited.questions() == suite.questions()[:1]


def test_a_file_that_is_not_there(case, tmp_path):
    with pytest.raises(TutelageError, match="does not exist"):
        case.suite(tmp_path / "nowhere.jsonl").questions()
