"""The table of all suites: what may be asked of a model, in a run and by ``tutelage eval``.

A suite is made from what the recipe's ``evaluation:`` section, or the command line, says for all of
them, and keeps of it what it has no reason to change: precision, batches, a limit. Its keyword-only
parameters are its options.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tutelage.components import Component, bind
from tutelage.evaluation.suite import Suite
from tutelage.evaluation.suites.file import file

OWN = "test"
"""What the recipe itself describes; students are compared with the teacher on its rows."""


def own(asked: Suite) -> Suite:
    """The data's test rows, as the recipe says."""
    return asked


SUITES: dict[str, Component] = {
    OWN: Component(own, "the test rows of the data, answered and scored as `evaluation` says"),
    "file": Component(file, "a file of prompts and answers, scored as `evaluation` says"),
}


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
    return dataclasses.replace(suite, name=name or kind)
