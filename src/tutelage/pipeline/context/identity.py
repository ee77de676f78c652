"""What makes two models, tokenizers or files the same, for deciding what is fresh."""

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tutelage.data.sources import Source, are_drawn
from tutelage.hashes import content_digests, content_sha256
from tutelage.models.gate import model_files
from tutelage.models.hub import hub_commit
from tutelage.models.places import local_place
from tutelage.proofs import fingerprint


def model_identity(
    name: str,
    revision: str | None = None,
    *,
    dtype: str = "float32",
    trust_remote_code: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """What makes a model the same: every byte of its files, and how they are read.

    A model of the hub is its commit. Large files are hashed once; see ``tutelage.hashes``.

    Args:
        name: what ``load_model`` accepts.
        revision: the hub's branch, tag or commit.
        dtype: type of the weights in memory.
        trust_remote_code: whether code that comes with the model runs.
        progress: called with the bytes read and all bytes to read.
    """
    place = local_place(name)
    read_as = {"dtype": dtype, **({"own_code": True} if trust_remote_code else {})}
    if place is None:
        commit = hub_commit(name, revision)
        return {"name": name, "revision": revision, "commit": commit, **read_as}
    files = model_files(place) if place.is_dir() else [place]
    digests = content_digests(files, progress)
    return {
        "files": {str(p.relative_to(place.parent if place.is_file() else place)): digests[p]
                  for p in files},
        **read_as,
    }  # fmt: skip


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
    path = Path(source).expanduser()
    if path.is_file():
        return {"sha256": content_sha256(path)}
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        digests = content_digests(files)
        return {"files": {str(p.relative_to(path)): digests[p] for p in files}}
    return {"name": source}


_HOW_READ = ("group", "split", "name", "revision", "first")
"""Of a source: what counts where it is given."""


def sources_identity(sources: Sequence[Source]) -> dict[str, Any] | list[dict[str, Any]]:
    """Of the sources of a split, and how they are read; of one source alone not as a list."""
    found = [
        {
            "format": Path(source.path).suffix,
            **data_identity(source.path),
            **{name: value for name in _HOW_READ if (value := getattr(source, name))},
            **({} if source.columns is None else {"columns": {**source.columns}}),
            **({} if source.system is None else {"system": source.system}),
            **({"weight": source.weight} if are_drawn(sources) else {}),
        }
        for source in sources
    ]
    return found[0] if len(found) == 1 else found


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
