"""What comes back from a sandbox is right for honest programs, and in words for others."""

import collections
import decimal
import fractions
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.errors import ConfigError, SandboxError
from tutelage.evaluation.sandbox import (
    BACKENDS,
    Limits,
    Sandbox,
    Task,
    find_backend,
    pool,
    run_checked,
)
from tutelage.evaluation.sandbox.inside import wire
from tutelage.evaluation.sandbox.inside.checks import foreign_names


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(2, find_or_skip()) as found:
        yield found


def find_or_skip():
    try:
        return find_backend()
    except SandboxError as error:
        pytest.skip(str(error))


def outcome(sandbox, program, checks, name="f", **limits):
    return sandbox.run(Task(program, checks, name), Limits(**limits))


# ---- values -------------------------------------------------------------------------------------

HASHED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
VALUES = st.recursive(
    HASHED,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(HASHED, inner, max_size=3)
        | st.sets(HASHED, max_size=3)
    ),
    max_leaves=12,
)


def same(one, other):
    """Equal, and of one type all the way down."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, dict):
        return all(same(a, b) and same(one[a], other[b]) for a, b in zip(one, other, strict=True))
    if isinstance(one, (list, tuple)):
        return all(same(a, b) for a, b in zip(one, other, strict=True))
    return True


@given(VALUES)
@settings(max_examples=40, deadline=None)
def test_plain_values_arrive_as_they_were(value):
    assert same(wire.decode(json.loads(json.dumps(wire.encode(value)))), value)


@pytest.mark.parametrize(
    "value",
    [
        10**4000, -(2**53), 0.1, -0.0, math.inf, "\ud800", bytearray(b"x"), range(3, 9, 2), ...,
        collections.deque([1]), fractions.Fraction(1, 3), decimal.Decimal("1.10"), int, str,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_other_plain_values_too(value):
    found = wire.decode(json.loads(json.dumps(wire.encode(value))))
    assert type(found) is type(value) and found == value and repr(found) == repr(value)


def test_subclasses_of_plain_types_are_sent_as_what_they_hold():
    point = collections.namedtuple("Point", "x y")(1, 2)
    for value, plain in [
        (point, (1, 2)),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.defaultdict(list, {1: [2]}), {1: [2]}),
        ({1: 2}.keys(), {1}),
    ]:
        assert same(wire.decode(wire.encode(value)), plain)
    assert list(wire.decode(wire.encode(n * n for n in range(3)))) == [0, 1, 4]
    assert math.isnan(wire.decode(wire.encode(math.nan)))


# ---- checks -------------------------------------------------------------------------------------


def test_a_right_program_passes_and_a_wrong_one_does_not(sandbox):
    assert outcome(sandbox, "def f(x): return x + 1", "assert f(3) == 4").passed
    found = outcome(sandbox, "def f(x): return x + 2", "assert f(3) == 4")
    assert not found.passed and found.why == "wrong value" and found.seconds > 0


def test_checks_of_both_benchmarks_run_as_they_are(sandbox):
    program = "def f(xs, scale=1):\n    xs.sort()\n    return [scale * x for x in xs]"
    checks = """
import math
METADATA = {"author": "somebody"}
def check(candidate):
    given = [3, 1, 2]
    assert candidate(given) == [1, 2, 3], "sorted"
    assert given == [3, 1, 2]  # what is done to an argument is done elsewhere
    assert tuple(candidate([2, 1], scale=2)) == (2, 4)
    assert set(candidate([1, 1])) == {1}
    assert math.isclose(candidate([0.1])[0], 0.1)
check(f)
"""
    assert outcome(sandbox, program, checks).passed


def test_objects_of_the_programs_classes_can_be_handed_to_it(sandbox):
    program = """
class Node:
    def __init__(self, value):
        self.value, self.left = value, None
def f(node): return 0 if node is None else node.value + f(node.left)
"""
    checks = "root = Node(1)\nroot.left = Node(2)\nroot.left.left = Node(3)\nassert f(root) == 6"
    assert outcome(sandbox, program, checks).passed
    assert outcome(sandbox, program, checks + "\nassert root.left.value == 2").passed
    assert not outcome(sandbox, program, "assert Node(1) == Node(1)").passed


def test_numbers_are_equal_as_the_benchmark_says(sandbox):
    """``True == 1`` and ``1 == 1.0`` there; a list is no tuple, and NaN equals nothing."""
    assert outcome(sandbox, "def f(): return 1.0", "assert f() == 1 == True").passed
    assert not outcome(sandbox, "def f(): return [1]", "assert f() == (1,)").passed
    assert not outcome(sandbox, "def f(): return float('nan')", "assert f() == f()").passed


def test_a_check_may_expect_an_exception(sandbox):
    checks = """
try:
    f(-1)
except ValueError:
    pass
else:
    assert False
"""
    assert outcome(sandbox, "def f(x): raise ValueError('no')", checks).passed
    for program in ("def f(x): return 0", "def f(x): raise TypeError", "def f(x): exit()"):
        assert not outcome(sandbox, program, checks).passed
    anything = checks.replace("ValueError", "BaseException")
    assert not outcome(sandbox, "import os\ndef f(x): os._exit(0)", anything).passed
    assert not outcome(sandbox, "def f(x): return object()", anything).passed
    assert not outcome(sandbox, "def g(x): pass", anything).passed


def test_names_that_checks_do_not_define_are_the_programs():
    import ast

    text = "import math as m\ndef check(c):\n    x = [y for y in c(1)]\n    assert g(x) == m.pi\n"
    assert foreign_names(ast.parse(text + "check(f)")) == {"g", "f"}


def test_verdicts_can_be_repeated(sandbox):
    program = "import random\ndef f(): return [random.random(), list({'a', 'b', 'c', 'd'})]"
    first = outcome(sandbox, program, "raise ValueError(repr(f()))").why
    assert outcome(sandbox, program, "assert f() == 0").why == first == "wrong value"
    value = "assert f()[0] == 0.8444218515250481"
    assert outcome(sandbox, program, value).passed
    order = "def f(): return list({'a', 'b', 'c', 'd', 'e'})"
    with Sandbox(1) as other:
        checks = "import os\nassert f() == list({'a', 'b', 'c', 'd', 'e'})"
        assert outcome(sandbox, order, checks).passed and outcome(other, order, checks).passed


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("def f(x): return [][1]", "raised IndexError: list index out of range"),
        ("def g(x): return 1", "gave no function 'f'"),
        ("def f(x) return 1", "raised SyntaxError"),
        ("f = 3", "raised TypeError: 'int' object is not callable"),
        ("def f(x): return lambda: 0", "gave an object of the class function"),
        ("def f(x): raise MemoryError", "memory"),
        ("raise KeyError('at once')", "raised KeyError: \"'at once'\""),
        ("import os\ndef f(x): os._exit(3)", "ended by itself (exit code 3)"),
    ],
)
def test_what_went_wrong_is_said_in_words(sandbox, program, why):
    assert outcome(sandbox, program, "assert f(1) == 1").why.startswith(why)


def test_broken_checks_do_not_pass(sandbox):
    found = outcome(sandbox, "def f(x): return 1", "assert f(")
    assert not found.passed and found.why.startswith("the checks do not compile")
    endless = outcome(sandbox, "def f(x): return 1", "while True: f(1)", seconds=0.3)
    assert endless.why == "time limit"


# ---- many, limits, none -------------------------------------------------------------------------


def test_many_run_at_once_and_keep_their_order(sandbox):
    tasks = [Task(f"def f(): return {n}", f"assert f() == {n - n % 3}", "f") for n in range(12)]
    told = []
    found = sandbox.run_all(tasks, progress=lambda done, total: told.append((done, total)))
    assert [one.passed for one in found] == [n % 3 == 0 for n in range(12)]
    assert told == [(n, 12) for n in range(1, 13)]
    assert sandbox.run_all([]) == []


def test_an_interrupt_ends_what_is_running():
    def stop(done, total):
        raise KeyboardInterrupt

    tasks = [Task("def f(): return 1", "f()", "f")]
    tasks += [Task("import time\ndef f(): time.sleep(60)", "f()", "f")] * 3
    own = Sandbox(2, find_or_skip())
    with pytest.raises(KeyboardInterrupt):
        own.run_all(tasks, progress=stop)
    own.close()


def test_limits_have_bounds():
    with pytest.raises(ConfigError, match="`memory`"):
        Limits(memory=5)
    with pytest.raises(ConfigError, match="`cpu_seconds`"):
        Limits(cpu_seconds=0)


def test_without_a_sandbox_it_is_refused_with_the_way_out(monkeypatch):
    gone = {name: replace(row, missing=lambda: "it is gone") for name, row in BACKENDS.items()}
    monkeypatch.setattr(pool, "BACKENDS", gone)
    monkeypatch.setattr(pool, "find_backend", pool.find_backend.__wrapped__)
    with pytest.raises(SandboxError) as told:
        run_checked("def f(): pass", "f()", "f")
    assert "bubblewrap: it is gone; landlock: it is gone" in str(told.value)
    assert "apt install bubblewrap" in str(told.value)


def test_a_lock_that_does_not_hold_is_found_out(monkeypatch):
    """Some systems take a rule and do not keep to it."""
    monkeypatch.setattr(pool, "_PROOF", "def tried(): return ['reading']")
    with pytest.raises(SandboxError, match="does not hold a program"):
        pool.Worker(find_or_skip())


def test_one_call_does_it_all():
    find_or_skip()
    assert run_checked("def f(x): return 2 * x", "assert f(2) == 4", "f").passed
