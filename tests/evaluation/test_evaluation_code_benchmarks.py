"""All of HumanEval and MBPP: solutions pass, however they are written, and changed ones do not."""

import ast
import copy
import gzip
import json

import pytest

from conftest_data import public_data
from tutelage.errors import SandboxError
from tutelage.evaluation import Suite
from tutelage.evaluation.metric import bound_metrics
from tutelage.evaluation.sandbox import Limits, Sandbox, Task, find_backend
from tutelage.evaluation.suites.table import make_suite

pytestmark = pytest.mark.slow

FILES = {
    "humaneval": ("humaneval", "humaneval/HumanEval.jsonl.gz", 164),
    "mbpp": ("mbpp", "mbpp/mbpp.jsonl", 974),
    "sanitized": ("mbpp", "mbpp/sanitized-mbpp.json", 427),
}
SURVIVORS = {
    "humaneval": set(),
    "mbpp": set(),
    "sanitized": set(),
}
"""Problems whose tests hold for every change that is tried; empty: there is none."""

MOST_CHANGES = 12


@pytest.fixture(params=FILES)
def problems(request):
    """The questions of a file, and their solutions."""
    kind, name, count = FILES[request.param]
    path = public_data(name)
    try:
        find_backend()
    except SandboxError as error:
        pytest.skip(str(error))
    text = (
        gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    ).decode()
    rows = json.loads(text) if path.suffix == ".json" else map(json.loads, text.splitlines())
    solutions = {
        str(row["task_id"]): row["prompt"] + row["canonical_solution"]
        if kind == "humaneval"
        else row["code"].replace("\r\n", "\n")
        for row in rows
    }
    options = {"data": str(path), "execute_code": True}
    options |= {"tasks": "all"} if kind == "mbpp" else {}
    suite = make_suite(kind, options, Suite("any", bound_metrics({"rouge_l": {}})))
    questions = suite.questions()
    assert len(questions) == count
    return request.param, suite, questions, [solutions[question.id] for question in questions]


def test_every_solution_passes_however_it_is_written(problems):
    _, suite, questions, solutions = problems
    metric = suite.metrics["passed"]
    for form in ("{0}", "Sure!\n\n```python\n{0}\n```\nThis function does it."):
        answers = [form.format(solution.strip()) for solution in solutions]
        found = metric.score(questions, answers)
        assert [q.id for q, score in zip(questions, found, strict=True) if not score] == []
    if questions[0].extra["before"]:
        bodies = [
            solution.removeprefix(question.prompt)
            for question, solution in zip(questions, solutions, strict=True)
        ]
        assert all(metric.score(questions, bodies))


SWAPPED = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Add, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


class Change(ast.NodeTransformer):
    """Changes the place of a number in a program: a comparison, a constant, an operator."""

    def __init__(self, place):
        self.place, self.seen = place, 0

    def _here(self):
        self.seen += 1
        return self.seen - 1 == self.place

    def visit_Compare(self, node):
        self.generic_visit(node)
        if type(node.ops[0]) in SWAPPED and self._here():
            node.ops[0] = SWAPPED[type(node.ops[0])]()
        return node

    def visit_BinOp(self, node):
        self.generic_visit(node)
        if type(node.op) in SWAPPED and self._here():
            node.op = SWAPPED[type(node.op)]()
        return node

    visit_BoolOp = visit_AugAssign = visit_BinOp

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            return ast.Constant(not node.value) if self._here() else node
        if isinstance(node.value, (int, float)):
            return ast.Constant(node.value + 1) if self._here() else node
        return node

    def visit_Return(self, node):
        self.generic_visit(node)
        return ast.Return(ast.Constant("changed")) if self._here() else node


def changed(program):
    """Programs with one change each, as many as are tried."""
    tree = ast.parse(program)
    found = []
    for place in range(1000):
        change = Change(place)
        new = ast.unparse(ast.fix_missing_locations(change.visit(copy.deepcopy(tree))))
        if change.seen <= place:
            break
        found.append(new)
    # From both ends: the last ones are what is returned.
    return found if len(found) <= MOST_CHANGES else found[:4] + found[-(MOST_CHANGES - 4) :]


def test_changed_solutions_fail(problems):
    name, _, questions, solutions = problems
    limits = Limits(cpu_seconds=2, seconds=20)
    waiting = {q.id: (q, changed(s)) for q, s in zip(questions, solutions, strict=True)}
    killed = tried = 0
    with Sandbox(2) as sandbox:
        for turn in range(MOST_CHANGES):
            asked = [(q, new[turn]) for q, new in waiting.values() if turn < len(new)]
            tasks = [Task(new, q.extra["checks"], q.extra["entry_point"]) for q, new in asked]
            for (question, _), outcome in zip(asked, sandbox.run_all(tasks, limits), strict=True):
                tried += 1
                if not outcome.passed:
                    killed += 1
                    del waiting[question.id]
    print(f"{name}: {killed} of {len(questions)} problems, {tried} programs")
    assert set(waiting) == SURVIVORS[name]
