"""The program in an answer: forms in which models write them, and what must not be changed."""

import pytest

from tutelage.evaluation.code.extract import helpers_of, program_of

PROMPT = '''from typing import List


def shifted(x: int) -> int:
    return x + 1


def total(numbers: List[int]) -> int:
    """ Sum of the numbers.
    >>> total([1, 2])
    3
    """
'''
WHOLE = "def total(numbers):\n    return sum(numbers)"


def result(answer, before=PROMPT, name="total"):
    names = {}
    exec(program_of(answer, name, before), names)
    return names[name]([1, 2, 3])


FORMS = {
    "body": "    return sum(numbers)\n",
    "body without its first indentation": "return sum(numbers)\n",
    "body whose first line alone lost it": "found = 0\n    for n in numbers:\n        found += n\n"
    "    return found\n",
    "body with a space too many in front": "     found = sum(numbers)\n    return found\n",
    "body a space too deep": "     found = sum(numbers)\n     return found\n",
    "body that does not indent": "found = 0\nfor n in numbers:\n    found += n\nreturn found",
    "body, then another function": "    return sum(numbers)\n\n\ndef total_of_squares(x:",
    "body, then prose": "    return sum(numbers)\n\nThis function adds all numbers up.",
    "block": f"```python\n{WHOLE}\n```",
    "block without a language": f"```\n{WHOLE}\n```",
    "block, prose around": f"Sure! Here's the function:\n\n```python\n{WHOLE}\n```\n\nIt's simple.",
    "block that was cut off": f"```python\n{WHOLE}\n\n# Example usage:\nprint(total([1,",
    "block in tildes": f"~~~py\n{WHOLE}\n~~~",
    "block in capitals": f"```Python\n{WHOLE}\n```",
    "block in a list": "1. So:\n\n   ```python\n   " + WHOLE.replace("\n", "\n   ") + "\n   ```",
    "block with a longer fence": f"````python\n{WHOLE}\n````",
    "block of the body": "```python\n    return sum(numbers)\n```",
    "block with the question first": f"```python\n{PROMPT}    return sum(numbers)\n```",
    "second block": f"Install it:\n```bash\npip install x\n```\nThen:\n```python\n{WHOLE}\n```",
    "first of two versions": f"```python\n{WHOLE}\n```\nOr:\n```python\n"
    "def total(n):\n    return 0\n```",
    "usage in a block of its own": f"```python\n{WHOLE}\n```\nUsage:\n```python\ntotal([1])\n```",
    "bare": WHOLE,
    "bare, imports first": f"import math\nLIMIT = 3\n\n{WHOLE}",
    "bare, constants first": f"LIMIT = 3\n\n{WHOLE}",
    "bare, prose in front": f"The answer is as follows.\n\n{WHOLE}",
    "bare, prose behind": f"{WHOLE}\n\nThis function takes a list, and adds it up.",
    "bare, prose around": f"Here you are:\nfrom math import pi\n{WHOLE}\nHope this helps!",
    "bare, closed by a fence": f"{WHOLE}\n```",
    "after thoughts": f"<think>\n```python\ndef total(x): return 0\n```\n</think>\n{WHOLE}",
    "Windows line ends": WHOLE.replace("\n", "\r\n"),
    "helpers of the prompt are used": "```python\ndef total(numbers: List[int]):\n"
    "    return sum(shifted(n) - 1 for n in numbers)\n```",
    "asynchronous helper": f"```python\nasync def total_later(): pass\n\n{WHOLE}\n```",
    "helper written anew": f"```python\ndef shifted(x): return x\n\n{WHOLE}\n```",
    "a value of that name": "```python\ntotal = lambda numbers: sum(numbers)\n```",
    "from the future": f"```python\nfrom __future__ import annotations\n{WHOLE}\n```",
}


@pytest.mark.parametrize("answer", FORMS.values(), ids=FORMS)
def test_the_program_is_found_and_runs(answer):
    assert result(answer) == 6


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I cannot help with that.",
        "```python\n```",
        "def other(x):\n    return 6",
        "    return 1",
    ],
)
def test_what_is_no_program_stays_wrong(answer):
    names = {}
    try:
        exec(program_of(answer, "total", PROMPT), names)
    except SyntaxError:
        return
    assert names.get("total", lambda _: None)([1, 2, 3]) != 6


def test_without_a_beginning_the_answer_is_the_program():
    assert result(f"{WHOLE}\n\nThat is all (", before="") == 6
    assert result("total = sum", before="", name="total") == 6


def test_a_program_is_not_changed():
    program = f"import sys\nsys.setrecursionlimit(5000)\n\n\n{WHOLE}\n\nassert total([1]) == 1"
    assert program_of(f"```python\n{program}\n```", "total") == program + "\n"


def test_the_function_of_the_prompt_is_no_helper():
    helpers = helpers_of(PROMPT, "total")
    assert "List" in helpers and "def shifted" in helpers and "def total" not in helpers
    assert helpers_of("def broken(", "broken") == ""


@pytest.mark.parametrize("hostile", ["(" * 50_000, "-" * 50_000 + "1", "[" * 3000, "9" * 50_000])
def test_no_answer_ends_the_reader(hostile):
    program_of(f"```python\n{hostile}\n```", "total", PROMPT)
    program_of(hostile, "total", PROMPT)
