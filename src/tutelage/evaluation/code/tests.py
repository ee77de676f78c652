"""Tests of problems, as texts that the sandbox runs apart from the program."""

import ast
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.evaluation.code.extract import helpers_of

_ORACLE = Path(__file__).with_name("oracle.py")

# Which arguments of MBPP+ are not what JSON makes of them; words as `oracle.shaped` reads them.
_SHAPES = {
    "t*": "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809",
    "lt*": "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780",
    "lt": "75 413 444 753",
    ". t": "106 750",
    "ls": "115",
    "f c": "124",
    "t": "250 307 405 446 617 720 763 808",
    "tt*": "259 401 445",
    "tm": "278",
    "v": "722",
    "c": "252",
    "T*": "580 615 791",
}
_SHAPE_OF = {int(number): shape for shape, numbers in _SHAPES.items() for number in numbers.split()}


_IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]", re.MULTILINE)


def foreign_modules(checks: str) -> list[str]:
    """Modules beyond Python's own that tests import, and that no sandbox has.

    Args:
        checks: the tests, as a text.
    """
    if not _IMPORT.search(checks):
        return []
    try:
        tree = ast.parse(checks)
    except SyntaxError:  # the sandbox says what is wrong with them
        return []
    names: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= dict.fromkeys(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names[node.module] = None
    roots = dict.fromkeys(name.partition(".")[0] for name in names)
    return [root for root in roots if root not in sys.stdlib_module_names]


def humaneval_checks(prompt: str, test: str, entry_point: str) -> str:
    """The tests of a problem of HumanEval: what the prompt defines besides, and ``check``."""
    return f"{helpers_of(prompt, entry_point)}\n\n{test}\n\ncheck({entry_point})\n"


def plus_checks(row: Mapping[str, Any], solution: str, suite: str) -> str:
    """The tests of a problem of EvalPlus: its solution says what is right for every input.

    Args:
        row: with ``task_id``, ``entry_point``, ``base_input``, ``plus_input`` and ``atol``.
        solution: the whole program that is right.
        suite: ``"humaneval"`` or ``"mbpp"``.
    """
    name, inputs = row["entry_point"], json.dumps([*row["base_input"], *row["plus_input"]])
    number = str(row["task_id"]).rpartition("/")[2]
    shape = _SHAPE_OF.get(int(number), "") if suite == "mbpp" and number.isdecimal() else ""
    return "\n".join(
        [
            _ORACLE.read_text(encoding="utf-8"),
            "_solution = {}",
            f"exec({solution!r}, _solution)",
            f"compare({name}, _solution[{name!r}], inputs_of({inputs!r}, {shape!r}),",
            f"    name={name!r}, tolerance={float(row['atol'] or 0)!r}, suite={suite!r})",
        ]
    )
