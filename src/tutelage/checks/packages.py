"""Whether the optional packages that a recipe asks for are installed."""

import importlib.util

from tutelage.checks.findings import Findings
from tutelage.errors import MissingDependencyError
from tutelage.recipe.trackers import missing_trackers


def check_packages(findings: Findings) -> None:
    """Trackers, adapters and the reader of GGUF files."""
    for message in missing_trackers(findings.loaded):
        findings.add("training.report_to", MissingDependencyError(message))
    if any(arm.training.lora is not None for arm in findings.loaded.arms.values()):
        _need(findings, "training.lora", "peft", "LoRA", "peft")
    for key, name in model_names(findings):
        if name.lower().endswith(".gguf"):
            _need(findings, key, "gguf", f"'{name}'", "gguf")


def _need(findings: Findings, key: str, package: str, what: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        findings.add(
            key,
            MissingDependencyError(
                f"{what} needs the package '{package}', which is not installed. Install it:"
                f" pip install 'tutelage[{extra}]'."
            ),
        )


def model_names(findings: Findings) -> list[tuple[str, str]]:
    """The models that a recipe names, with the keys that name them."""
    recipe = findings.loaded.recipe
    named: list[tuple[str, str | None]] = []
    if recipe.student is not None:
        named.append(("student.model", recipe.student.model))
        if recipe.student.init_from != "TEACHER":
            named.append(("student.init_from", recipe.student.init_from))
    if recipe.teachers:
        named += [(f"teachers.{n}.model", t.model) for n, t in enumerate(recipe.teachers)]
    elif recipe.teacher is not None:
        named.append(("teacher.model", recipe.teacher.model))
    return [(key, name) for key, name in named if name is not None]
