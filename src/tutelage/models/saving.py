"""Saving models so that a full disk is one clear message and never half a model."""

import contextlib
import errno
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from tutelage.errors import TutelageError
from tutelage.files import disk_errors, no_room

_FULL = 64 * 2**20
"""With less free space than this after a failed write, the disk counts as full."""

_WORDS = {
    errno.ENOSPC: ("no space left", "os error 28"),
    errno.EDQUOT: ("quota exceeded", "os error 122"),
    errno.EFBIG: ("file too large", "os error 27"),
}
"""How libraries that are not written in Python pass on what the operating system said."""

_TORCH = ("file write failed", "unexpected pos", "failed writing")


@contextlib.contextmanager
def disk_checked(folder: str | Path) -> Iterator[None]:
    """Remove ``folder`` when writing it fails, and say so when there was no room for it.

    torch and safetensors report that in their own ways, not as the operating system does.
    """
    folder = Path(folder)
    try:
        with disk_errors(folder):
            yield
    except (OSError, RuntimeError, SafetensorError) as error:
        # Looked at first: what is removed would make room.
        number = None if isinstance(error, TutelageError) else _lacks_room(error, folder)
        shutil.rmtree(folder, ignore_errors=True)
        if number is not None:
            raise no_room(folder, number) from error
        raise


def _lacks_room(error: Exception, folder: Path) -> int | None:
    """Which room was lacking, as a number of the system's errors; None when it is another error."""
    words = str(error).lower()
    for number, said in _WORDS.items():
        if any(one in words for one in said):
            return number
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if shutil.disk_usage(place).free < _FULL:
        return errno.ENOSPC
    if not any(one in words for one in _TORCH):
        return None
    # torch says that a write failed, and not why.
    limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    return errno.EFBIG if limited else errno.EDQUOT
