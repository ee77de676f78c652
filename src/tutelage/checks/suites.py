"""Whether the files are there that suites read."""

import os
from collections.abc import Iterator
from pathlib import Path

from tutelage.checks.findings import Findings
from tutelage.errors import DataError
from tutelage.recipe.evaluation import SuiteChoice


def check_suites(findings: Findings) -> None:
    """The files of suites are there; what they hold is looked at when a run begins.

    Args:
        findings: what is found so far.
    """
    for key, chosen in _asked(findings):
        source = chosen.options.get("data")
        if isinstance(source, str) and not os.path.exists(Path(source).expanduser()):
            with findings.about(f"{key}.data"):
                raise DataError(
                    f"'{source}' does not exist, so the suite '{chosen.called}' has nothing to ask."
                    " Correct the path; it counts from the recipe's folder or the working folder."
                )


def _asked(findings: Findings) -> Iterator[tuple[str, SuiteChoice]]:
    """The suites of a recipe by their keys."""
    recipe = findings.loaded.recipe
    for place, chosen in enumerate(recipe.evaluation.suites):
        yield f"evaluation.suites.{place}", chosen
    if recipe.selection.suite is not None:
        yield "selection.suite", recipe.selection.suite
