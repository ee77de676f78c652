"""The table of all suites: what may be asked of a model at the end of a run.

A suite is made from the one that the recipe's ``evaluation:`` section describes, and keeps of it
what it has no reason to change: ``dataclasses.replace(asked, limit=100)``.
"""

import dataclasses

from tutelage.components import Component, bind
from tutelage.evaluation.suite import Suite

OWN = "test"
"""What the recipe itself describes; students are compared with the teacher on its rows."""


def own(asked: Suite) -> Suite:
    """The data's test rows, as the recipe says."""
    return asked


SUITES: dict[str, Component] = {
    OWN: Component(own, "the test rows of the data, answered and scored as `evaluation` says"),
}


def make_suite(name: str, asked: Suite) -> Suite:
    """A suite of the table, called by its name there.

    Args:
        name: of a row.
        asked: what the recipe describes.

    Raises:
        ConfigError: there is no such suite.
    """
    suite = bind(SUITES, "suite", name, {})(asked)
    return dataclasses.replace(suite, name=name)
