"""Carry the checks out, one after another, so that one that fails leaves the others be."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tutelage.doctor.finding import Diagnosis, Finding
from tutelage.doctor.patient import Patient
from tutelage.doctor.table import CHECKS, Check
from tutelage.doctor.template import shown_examples
from tutelage.errors import TutelageError, first_line
from tutelage.pipeline.context.display import Display, quiet_libraries
from tutelage.recipe import load_recipe


def examine(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    *,
    sample: int = 100,
    examples: int = 2,
    quiet: bool | None = None,
    checks: Sequence[Check] = CHECKS,
) -> Diagnosis:
    """Look for everything that can go wrong with a recipe on this machine; writes nothing.

    Args:
        recipe: name of a shipped recipe, or path of a YAML file.
        overrides: ``a.b=c``, as after ``--set``.
        sample: examples on which teacher and student are compared; 0 loads no weights.
        examples: training examples that are shown token by token.
        quiet: show no progress; None shows it on a terminal alone.
        checks: which ones.

    Raises:
        ConfigError: the recipe itself cannot be read.
    """
    quiet_libraries()
    loaded = load_recipe(recipe, overrides)
    found: list[Finding] = []
    display = Display(quiet)
    try:
        patient = Patient(loaded, display, sample)
    except TutelageError as error:  # a model of the recipe cannot even be named
        finding = Finding("error", str(error), check="recipe.valid")
        return Diagnosis(loaded.recipe.name, (finding,))
    failed: dict[str, str] = {}
    for check in checks:
        found += _findings(check, patient, found, failed)
    try:
        shown = shown_examples(patient, examples) if examples else ()
    except TutelageError:
        shown = ()  # said by the checks
    return Diagnosis(loaded.recipe.name, tuple(found), shown, failed)


def _findings(
    check: Check, patient: Patient, before: Sequence[Finding], failed: dict[str, str]
) -> list[Finding]:
    """What one check finds; an error that others have said already is said once."""
    found: list[Finding] = []
    try:
        found += (replace(finding, check=check.name) for finding in check.run(patient))
    except TutelageError as error:
        text = str(error)
        if any(text in finding.saw for finding in before):
            failed[check.name] = "needs what an error above is about"
        else:
            found.append(Finding("error", text, check=check.name))
    except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError,
            ValueError) as error:  # fmt: skip
        # A model of somebody's own may fail in its own ways; the other checks are worth having.
        failed[check.name] = f"{type(error).__name__}: {first_line(error)}"
        found.append(
            Finding(
                "warning",
                f"this could not be looked at: {type(error).__name__}: {first_line(error)}",
                check=check.name,
            )
        )
    return found
