"""The suites of programs: what is asked, what counts, and that nothing runs unless it may."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.errors import ConfigError, DataError, SandboxError
from tutelage.evaluation import Suite, evaluate_suite
from tutelage.evaluation.code.oracle import close, compare, shaped
from tutelage.evaluation.code.tests import foreign_modules
from tutelage.evaluation.metric import bound_metrics
from tutelage.evaluation.sandbox import find_backend
from tutelage.evaluation.suites.table import make_suite
from tutelage.generation import Answer

ASKED = Suite("any", bound_metrics({"rouge_l": {}}))
BEGUN = 'def twice(x: int) -> int:\n    """ Two times x. """\n'
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": BEGUN,
    "entry_point": "twice",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 6\n",
}
PLUS = {
    **HUMANEVAL,
    "contract": "\n    assert isinstance(x, int)\n",
    "base_input": [[2]],
    "plus_input": [[3], [-4], [0.25]],
    "atol": 0,
}
MBPP = [
    {
        "task_id": number,
        "text": f"Write a function to add {number}.",
        "code": f"def add_{number}(x):\r\n    return x + {number}",
        "test_setup_code": "",
        "test_list": [f"assert add_{number}(1) == {number + 1}"],
        "challenge_test_list": [f"assert add_{number}(-1) == {number - 1}"],
    }
    for number in (2, 3, 4, 5, 11, 12, 511)
]


@pytest.fixture(autouse=True, scope="module")
def there_is_a_sandbox():
    try:
        find_backend()
    except SandboxError as error:
        pytest.skip(str(error))


def written(folder, rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def suite(kind, data, **options):
    return make_suite(kind, {"data": data, "execute_code": True, **options}, ASKED)


def scores(found, *answers):
    questions = found.questions()
    asked = questions * (len(answers) // len(questions))
    return found.metrics["passed"].score(asked, list(answers))


class Echo:
    """An engine that answers with what it is told."""

    chats = False

    def __init__(self, *answers):
        self.answers, self.asked = answers, []

    def answer(self, prompts, settings, *, seed=0, progress=None, on_answer=None):
        self.asked.append((prompts, settings))
        return [Answer(text, 5, "stop") for text in self.answers[: len(prompts)]]


def test_humaneval_is_a_function_to_go_on_with(tmp_path):
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(HUMANEVAL).encode()))
    found = suite("humaneval", str(path))
    (question,) = found.questions()
    assert (question.id, question.prompt) == ("HumanEval/0", BEGUN)
    assert BEGUN.strip() in question.chat.messages[0].content
    assert scores(found, "    return x + x\n", "    return x\n", BEGUN + "    return 2*x") == [
        1,
        0,
        1,
    ]


def test_an_evaluation_asks_stops_and_scores(tmp_path):
    found = suite("humaneval", written(tmp_path, [HUMANEVAL]))
    engine = Echo("    return 2 * x\n")
    result = evaluate_suite(engine, found.questions(), found)
    assert result.scores["passed"].mean == 1.0
    ((prompts, settings),) = engine.asked
    assert prompts == [BEGUN] and "\ndef " in settings.stop_strings
    engine.chats = True
    evaluate_suite(engine, found.questions(), found)
    assert engine.asked[-1][1].stop_strings == ()  # a block of code has more than one function


def test_pass_at_k_is_of_several_answers(tmp_path):
    data = written(tmp_path, [HUMANEVAL])
    found = suite("humaneval", data, samples=4, sampling_temperature=0.8, ks=[1, 2])
    engine = Echo("    return 2 * x", "    return x", "    return 0", "    return 1")
    result = evaluate_suite(engine, found.questions(), found)
    assert result.scores["pass@1"].mean == pytest.approx(1 / 4)
    assert result.scores["pass@2"].mean == pytest.approx(1 / 2)
    with pytest.raises(ConfigError, match="pass@k needs k answers"):
        suite("humaneval", data, ks=[2])


def test_mbpp_asks_its_test_tasks_after_three_solved_ones(tmp_path):
    found = suite("mbpp", written(tmp_path, MBPP))
    assert [question.id for question in found.questions()] == ["11", "12"]
    first = found.questions()[0]
    assert first.prompt.count("[BEGIN]") == 4 and first.prompt.count("[DONE]") == 3
    assert "def add_2(x):\n    return x + 2\n[DONE]" in first.prompt
    assert first.prompt.endswith("assert add_11(1) == 12\n[BEGIN]\n")
    assert "challenge" not in str(first) and "add_11(-1)" not in first.prompt
    right = [f"def add_{n}(x):\n    return x + {n}" for n in (11, 12)]
    assert scores(found, *right) == [1, 1]
    # By its three asserts alone, as papers report it, whatever else a row brings along.
    learned = [f"def add_{n}(x):\n    return {n + 1}" for n in (11, 12)]
    assert scores(found, *learned) == [1, 1]
    everything = suite("mbpp", written(tmp_path, MBPP), tasks="all").questions()
    assert len(everything) == len(MBPP)


def test_a_table_of_columns_is_the_same_benchmark(tmp_path):
    rows = [{**row, "test_setup_code": f"one = {row['task_id']}"} for row in MBPP]
    rows = [{**row, "test_list": [f"assert add_{row['task_id']}(0) == one"]} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    columns = suite("mbpp", str(tmp_path / "rows.parquet")).questions()
    lines = suite("mbpp", written(tmp_path, rows)).questions()
    assert columns == lines and "one = 11" in columns[0].extra["checks"]
    pq.write_table(pa.Table.from_pylist([PLUS]), tmp_path / "plus.parquet")
    plus = suite("humaneval", str(tmp_path / "plus.parquet"))
    assert scores(plus, "    return x + x", "    return 0") == [1, 0]


NUMPY = "import numpy as np\n\ndef check(candidate):\n    assert np.allclose(candidate(2), 4)\n"


def test_tests_that_no_program_could_pass_are_refused(tmp_path):
    found = suite("humaneval", written(tmp_path, [{**HUMANEVAL, "test": NUMPY}]))
    with pytest.raises(DataError, match=r"'HumanEval/0' import numpy.*HumanEvalPlus\.jsonl"):
        found.check(found.questions())
    # Beside them are the asserts of MBPP, which would pass for those of MBPP+.
    row = {**MBPP[4], "test": NUMPY}
    with pytest.raises(DataError, match=r"line 1: this is MBPP.*MbppPlus\.jsonl"):
        suite("mbpp", written(tmp_path, [row])).questions()
    own = "import collections, os.path\nfrom math import inf\nassert add_1(1) == 2"
    assert foreign_modules(own) == [] and foreign_modules("from numpy.linalg import norm\n") == [
        "numpy"
    ]


def test_sanitized_mbpp_is_read_too(tmp_path):
    row = {
        "source_file": "x", "task_id": 20, "prompt": "Round it.",
        "code": "def r(x): return int(x)", "test_imports": ["import math"],
        "test_list": ["assert math.isclose(r(1.5), 1)"],
    }  # fmt: skip
    path = tmp_path / "sanitized-mbpp.json"
    path.write_text(json.dumps([row]))
    found = suite("mbpp", str(path))
    assert scores(found, "import math\ndef r(x): return math.floor(x)") == [1]


def test_evalplus_holds_answers_against_the_solution(tmp_path):
    found = suite("humaneval", written(tmp_path, [PLUS]))
    assert scores(found, "    return x + x", "    return 2 * int(x)") == [1, 0]
    near = "    return 2 * x + 1e-7 * (x == 0.25)"
    assert scores(found, near) == [1]  # floats are compared within 1e-6
    row = {
        "task_id": "Mbpp/2", "prompt": '"""\nShared elements.\n"""\n', "entry_point":
        "similar_elements", "canonical_solution":
        "\ndef similar_elements(a, b):\n    return tuple(set(a) & set(b))\n",
        "base_input": [[[1, 2, 3], [2, 3, 4]]], "plus_input": [[[], [1]]], "atol": 0,
        "contract": "", "assertion": "",
    }  # fmt: skip
    found = suite("mbpp", written(tmp_path, [row]))
    (question,) = found.questions()
    assert question.prompt.startswith('"""') and "similar_elements" not in question.prompt
    right = (
        "def similar_elements(a, b):\n    assert type(a) is tuple\n    return list(set(a) & set(b))"
    )
    assert scores(found, right, right.replace("&", "|")) == [1, 0]


def test_evalplus_rules():
    def held(found, right, *inputs, **options):
        options = {"name": "f", "tolerance": 0.0, "suite": "mbpp", **options}
        compare(found, right, list(inputs), **options)

    held(lambda x: [x], lambda x: [x], [1])
    with pytest.raises(AssertionError):
        held(lambda x: (x,), lambda x: [x], [1])
    held(lambda x: 0.1 + 0.2, lambda x: 0.3, [1])
    with pytest.raises(AssertionError):
        held(lambda x: 1, lambda x: 1.0000001, [1])  # of another type
    held(lambda x: object(), lambda x: True, [1], name="check_str")
    with pytest.raises(AssertionError):
        held(lambda x: None, lambda x: object(), [1], name="check_str")
    held(lambda xs: 0.5, lambda xs: None, [[-1, 2]], name="find_zero", suite="humaneval")
    assert close([1.0, [2.0]], [1.0 + 1e-9, [2.0]], 1e-6) and not close("1", 1, 1e-6)
    assert close(float("inf"), float("inf"), 1e-6) and not close(float("nan"), float("nan"), 1)
    assert shaped([[1, 2], 3], "t") == [(1, 2), 3] and shaped([[[1]], [[2]]], "lt*") == [
        [(1,)],
        [(2,)],
    ]
    assert shaped([[[1], []]], "ls") == [[{1}, {}]] and shaped(["1.5", "2j"], "f c") == [1.5, 2j]
    assert shaped([[[1], 2]], "T*") == [((1,), 2)] and shaped([[[1], 2]], "tm") == [((1,), 2)]


def test_nothing_runs_unless_somebody_said_so(tmp_path):
    found = make_suite("humaneval", {"data": written(tmp_path, [HUMANEVAL])}, ASKED)
    engine = Echo("    return 2 * x")
    with pytest.raises(ConfigError, match="--execute-code"):
        evaluate_suite(engine, found.questions(), found)
    assert engine.asked == []  # said before anything is generated
    with pytest.raises(ConfigError, match="--execute-code"):
        found.metrics["passed"].score(found.questions(), ["    return 2 * x"])


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("humaneval", {"question": "1"}, "task_id"),
        ("humaneval", {**HUMANEVAL, "test": 3}, "column 'test' is missing, empty or no text"),
        ("mbpp", {"task_id": 11, "text": "x", "code": "def f(): pass"}, "list of asserts"),
        ("mbpp", {**MBPP[4], "code": "x = 1"}, "no test calls a function"),
        ("mbpp", {**MBPP[4], "code": "def f("}, "no Python"),
        ("mbpp", MBPP[0], "mbpp.tasks=all"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, kind, row, message):
    with pytest.raises(DataError, match=message):
        suite(kind, written(tmp_path, [row])).questions()
