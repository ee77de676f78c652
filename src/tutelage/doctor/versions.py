"""Versions of packages with known faults that a distillation would suffer from.

A row is true of the versions that it names, by the report that it links; what can be tried out on
the models and data themselves is tried out by other checks, whatever the version.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from tutelage.doctor.finding import Finding
from tutelage.doctor.patient import Patient

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "safetensors", "peft")
"""Whose versions are shown."""


@dataclass(frozen=True)
class Fault:
    """A fault of some versions of a package.

    Attributes:
        package: its name.
        versions: which have it, as in a requirement.
        what: what goes wrong.
        way_out: what to do.
        source: where it was reported.
        concerns: whether a recipe and its models meet it.
    """

    package: str
    versions: str
    what: str
    way_out: str
    source: str
    concerns: Callable[[Patient], bool]


def _types(patient: Patient) -> set[str]:
    return {str(config.model_type) for config in patient.attempt("configs").values()}


def _granite(patient: Patient) -> bool:
    return any(name.startswith("granite") for name in _types(patient))


def _other_splits(patient: Patient) -> bool:
    return bool(_types(patient) & {"olmo2", "hyperclovax"})


def _own_code(patient: Patient) -> bool:
    sections: list[Any] = [patient.recipe.student, *patient.recipe.ladder.values()]
    return any(section is not None and section.trust_remote_code for section in sections)


def _lora(patient: Patient) -> bool:
    return any(recipe.training.lora is not None for _, recipe in patient.arms())


FAULTS: tuple[Fault, ...] = (
    Fault(
        "transformers",
        ">=5.0,<=5.8.0",
        "AutoTokenizer splits numbers of Granite models otherwise than they were trained: other"
        " ids, no message",
        "pip install -U transformers",
        "https://github.com/huggingface/transformers/issues/45812",
        _granite,
    ),
    Fault(
        "transformers",
        ">=5.0,<=5.8.0",
        "AutoTokenizer gives texts other ids than OLMo 2 and HyperCLOVA X were trained with",
        "pip install -U transformers",
        "https://github.com/huggingface/transformers/issues/45920",
        _other_splits,
    ),
    Fault(
        "transformers",
        ">=5.0,<5.13",
        "weights of models that bring their own code may be replaced by random ones while they are"
        " loaded, without a message",
        "pip install -U transformers, or use a model that transformers knows without"
        " trust_remote_code",
        "https://github.com/huggingface/transformers/issues/46620",
        _own_code,
    ),
    Fault(
        "peft",
        "<0.18.0",
        "cannot be imported beside transformers 5 (HybridCache is gone), so LoRA fails",
        "pip install -U 'peft>=0.18'",
        "https://github.com/huggingface/peft/issues/3333",
        _lora,
    ),
)


def versions(patient: Patient) -> Iterator[Finding]:
    """Packages that are installed, and those of their faults that this recipe meets."""
    from packaging.specifiers import SpecifierSet

    found = installed()
    said = ", ".join(f"{name} {version}" for name, version in found.items())
    met = [
        fault
        for fault in FAULTS
        if (version := found.get(fault.package)) is not None
        and SpecifierSet(fault.versions).contains(version, prereleases=True)
        and fault.concerns(patient)
    ]
    for fault in met:
        yield Finding(
            "error",
            f"{fault.package} {found[fault.package]}: {fault.what} ({fault.source})",
            fault.way_out,
            {"package": fault.package, "versions": fault.versions, "source": fault.source},
        )
    if not met:
        yield Finding(
            "ok", f"{said}: none of {len(FAULTS)} known faults is met", numbers=dict(found)
        )


def installed() -> dict[str, str]:
    """Versions of the packages that matter, of those that are there."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
