"""Whether the optional packages that a recipe asks for are installed."""

import importlib.util

from tutelage.checks.findings import Findings
from tutelage.errors import MissingDependencyError


def check_packages(findings: Findings) -> None:
    """Trackers, adapters and the reader of GGUF files."""
    recipe = findings.loaded.recipe
    for arm, settings in findings.loaded.arms.items():
        key = "training" if settings is recipe else f"controls.{arm}.training"
        for tracker in settings.training.report_to:
            _need(findings, f"{key}.report_to", tracker, f"the tracker '{tracker}'", tracker)
        if settings.training.lora is not None:
            _need(findings, f"{key}.lora", "peft", "LoRA", "peft")
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
