"""What makes two models, tokenizers or files the same, for deciding what is fresh."""

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

from tutelage.files import file_sha256, fingerprint

_SAMPLE = 1 << 20


def model_identity(name: str, revision: str | None = None) -> dict[str, Any]:
    """Fingerprint of a model's files; for a hub name the name and revision.

    Weights are read at their start, middle and end only: training changes them everywhere, and
    reading many gigabytes at every start would cost minutes.
    """
    path = Path(name)
    if path.is_file():
        return {"file": _sampled(path)}
    if not path.is_dir():
        return {"name": name, "revision": revision}
    files = sorted(p for p in path.iterdir() if p.suffix in (".json", ".safetensors", ".model"))
    return {
        "files": {p.name: file_sha256(p) if p.suffix == ".json" else _sampled(p) for p in files}
    }


def _sampled(path: Path) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for start in (0, max(size // 2, 0), max(size - _SAMPLE, 0)):
            file.seek(start)
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def tokenizer_identity(tokenizer: Any) -> str:
    """Fingerprint of a tokenizer: its tokens, its rules where they can be read, its template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return fingerprint(
        {
            "vocabulary": tokenizer.get_vocab(),
            "rules": backend.to_str() if backend is not None else type(tokenizer).__name__,
            "chat_template": str(tokenizer.chat_template),
            "special": {k: str(v) for k, v in tokenizer.special_tokens_map.items()},
        }
    )


def data_identity(source: str) -> dict[str, Any]:
    """Fingerprint of a data file or folder; for a hub name the name."""
    path = Path(source)
    if path.is_file():
        return {"sha256": file_sha256(path)}
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        return {"files": {str(p.relative_to(path)): file_sha256(p) for p in files}}
    return {"name": source}


def versions() -> dict[str, Any]:
    """What ran: versions, platform and threads."""
    import importlib.metadata

    import torch

    packages = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "peft", "numpy")
    found: dict[str, Any] = {"tutelage": _version("tutelage")}
    found["python"] = platform.python_version()
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    accelerator = (
        torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    )
    return {
        **found,
        "platform": platform.platform(),
        "cpu": platform.processor() or platform.machine(),
        "device": accelerator.type if accelerator is not None else "cpu",
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
    }


def _version(package: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        from tutelage import __version__

        return __version__
