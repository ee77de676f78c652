"""Saving models so that a full disk is one clear message and never half a model."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from tutelage.errors import RunFolderError, TutelageError
from tutelage.files import disk_errors

_FULL = 64 * 2**20
"""With less free space than this after a failed write, the disk counts as full."""


@contextlib.contextmanager
def disk_checked(folder: str | Path) -> Iterator[None]:
    """Remove ``folder`` when writing it fails, and say so when the disk is full.

    torch and safetensors report a full disk in their own ways, not as the operating system does.
    """
    folder = Path(folder)
    try:
        with disk_errors(folder):
            yield
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, TutelageError):
            raise
        words = str(error).lower()
        full = "no space left" in words or "file write failed" in words
        if full or shutil.disk_usage(folder.parent).free < _FULL:
            raise RunFolderError(
                f"The disk is full: '{folder}' was not written. Earlier checkpoints are unharmed."
                " Free some space and give the same command again: it continues from there."
            ) from error
        raise
