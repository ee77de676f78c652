"""Whether the optional packages that a recipe asks for are installed."""

import importlib.util

from tutelage.checks.findings import Findings
from tutelage.errors import MissingDependencyError


def check_packages(findings: Findings) -> None:
    """Trackers, adapters and the reader of GGUF files."""
    for tracker in {name: None for _, arm in findings.arms() for name in arm.training.report_to}:
        if importlib.util.find_spec(tracker) is None:
            findings.add(
                "training.report_to",
                MissingDependencyError(
                    f"the tracker '{tracker}' is not installed. Install it with: pip install"
                    f" 'tutelage[{tracker}]', or leave it out: a run keeps its own records anyway."
                ),
            )
    if any(arm.training.lora is not None for _, arm in findings.arms()):
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
    named += [(f"{findings.teacher_key(n)}.model", t.model) for n, t in recipe.ladder.items()]
    return [(key, name) for key, name in named if name is not None]
