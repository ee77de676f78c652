"""Models of the hub, as folders: one commit, downloaded once, looked at before it is used."""

import functools
import os
import re
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SMALL_FILES = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
_COPIES = ("original/*", "onnx/*", "consolidated*", "*/*.safetensors")
"""The same weights once more, in other forms."""


def hub_folder(name: str, revision: str | None, *, weights: bool, code: bool) -> Path:
    """The folder of one commit of a model on the hub, downloaded now as far as it is not there.

    Args:
        name: ``owner/name``.
        revision: branch, tag or commit; None for the main branch.
        weights: whether the weights are wanted too; of safetensors alone.
        code: whether code that comes with the model is wanted too.
    """
    from huggingface_hub import snapshot_download

    wanted = [*_SMALL_FILES, *(["*.safetensors"] if weights else []), *(["*.py"] if code else [])]
    return Path(
        snapshot_download(
            name,
            revision=hub_commit(name, revision) or revision,
            allow_patterns=wanted,
            ignore_patterns=list(_COPIES),
        )
    )


@functools.lru_cache
def hub_commit(name: str, revision: str | None = None) -> str | None:
    """The commit that a hub name means now; without a network the one last downloaded.

    Asked once in a process, so that all that a run takes from a name is of one commit.

    Args:
        name: ``owner/name``.
        revision: branch, tag or commit; None for the main branch.
    """
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, constants
    from huggingface_hub.file_download import repo_folder_name

    try:
        return HfApi().model_info(name, revision=revision, timeout=10).sha
    except Exception:  # no network, no such model: the cache, or the download, has the answer
        folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")
        record = folder / "refs" / (revision or "main")
        if os.path.isfile(record):
            return record.read_text(encoding="utf-8").strip()
        return None
