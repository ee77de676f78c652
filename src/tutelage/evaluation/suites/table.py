"""The table of all suites: what may be asked of a model, in a run and by ``tutelage eval``.

A suite is made from what the recipe's ``evaluation:`` section, or the command line, says for all of
them, and keeps of it what it has no reason to change: precision, batches, a limit. Its keyword-only
parameters are its options.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from tutelage.components import Component, bind
from tutelage.evaluation.suite import Suite
from tutelage.evaluation.suites.arc import arc
from tutelage.evaluation.suites.arithmetic import arithmetic
from tutelage.evaluation.suites.choice import choice
from tutelage.evaluation.suites.code import humaneval, mbpp
from tutelage.evaluation.suites.file import file
from tutelage.evaluation.suites.gsm8k import gsm8k
from tutelage.evaluation.suites.instruct import instruct
from tutelage.evaluation.suites.lists import lists
from tutelage.evaluation.suites.lm_eval import lm_eval
from tutelage.evaluation.suites.math import math
from tutelage.evaluation.suites.perplexity import agreement, perplexity
from tutelage.evaluation.suites.strategyqa import strategyqa

OWN = "test"
"""What the recipe itself describes; students are compared with the teacher on its rows."""


def own(asked: Suite) -> Suite:
    """The data's test rows, as the recipe says."""
    return asked


SUITES: dict[str, Component] = {
    OWN: Component(own, "the test rows of the data, answered and scored as `evaluation` says"),
    "file": Component(file, "a file of prompts and answers, scored as `evaluation` says"),
    "instruct": Component(
        instruct,
        "ROUGE-L of answers to instructions, over five seeds at temperature 1",
        "Gu et al. 2023, arXiv:2306.08543",
    ),
    "gsm8k": Component(
        gsm8k,
        "grade-school mathematics, whose answers are numbers",
        "Cobbe et al. 2021, arXiv:2110.14168",
    ),
    "math": Component(
        math,
        "competition mathematics: MATH and MATH-500",
        "Hendrycks et al. 2021, arXiv:2103.03874",
    ),
    "humaneval": Component(
        humaneval,
        "functions from their description, run against tests: HumanEval, and EvalPlus's",
        "Chen et al. 2021, arXiv:2107.03374",
    ),
    "mbpp": Component(
        mbpp,
        "small programs from a sentence, run against tests: MBPP, and EvalPlus's",
        "Austin et al. 2021, arXiv:2108.07732",
    ),
    "choice": Component(choice, "any questions with options, answered in words or by likelihood"),
    "arc": Component(arc, "science questions with options", "Clark et al. 2018, arXiv:1803.05457"),
    "strategyqa": Component(
        strategyqa,
        "questions of several steps, answered yes or no",
        "Geva et al. 2021, arXiv:2101.02235",
    ),
    "arithmetic": Component(
        arithmetic, "chained sums of the embedded task, of any length and size"
    ),
    "lists": Component(
        lists, "lists of the second embedded task, of any length and number of steps"
    ),
    "perplexity": Component(
        perplexity, "how well held-out text is predicted, and how well calibrated"
    ),
    "agreement": Component(
        agreement, "divergence from a teacher and agreement with it, on held-out text"
    ),
    "lm-eval": Component(lm_eval, "a task of lm-evaluation-harness, as in lm-eval:hellaswag"),
}
"""Suites by name; `tutelage suites` prints them with their options."""


def make_suite(kind: str, options: Mapping[str, Any], asked: Suite, name: str = "") -> Suite:
    """A suite of the table.

    Args:
        kind: of a row.
        options: of that suite.
        asked: what is said for all suites.
        name: what its results are called; as the row when left out.

    Raises:
        ConfigError: there is no such suite or option, or an option is missing.
    """
    suite = bind(SUITES, "suite", kind, options)(asked)
    # Read once, so that what is asked at the end is what was looked at before.
    read = None if suite.read is None else functools.cache(suite.read)
    return dataclasses.replace(suite, name=name or kind, read=read)
