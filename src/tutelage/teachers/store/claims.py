"""Several workers at one store, on one machine or several: who writes which shard."""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from tutelage.errors import RunFolderError
from tutelage.files import disk_errors
from tutelage.locks import claimed, taken
from tutelage.teachers.store.shards import is_whole

CLAIMS = ".claims"
"""A folder in a store with the locks of those who fill it; a lock ends with its process."""

_PAUSE = 0.2  # seconds until others are looked at again


def has_locks(folder: Path) -> bool:
    """Whether the file system of a folder has locks; without them workers cannot share."""
    try:
        with disk_errors(folder), claimed(folder / CLAIMS / "probe"):
            return True
    except RunFolderError:
        return False


@contextlib.contextmanager
def beginning(folder: Path) -> Iterator[None]:
    """Be the only one who looks what a store is and says so, where there are locks."""
    with _guard(folder) if has_locks(folder) else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def filling(folder: Path, cut: str, tell: Callable[[str], Any] | None = None) -> Iterator[None]:
    """Fill a store for the time of the block, together with those who cut their shards alike.

    Whoever has other examples waits: what both have would be computed twice.

    Args:
        folder: the store.
        cut: the same for all who cut alike.
        tell: called with a line when there is somebody to wait for.
    """
    told = False
    while (file := _joined(folder, cut)) is None:
        if tell is not None and not told:
            tell(f"waiting for those who fill '{folder}' with other examples")
        told = True
        time.sleep(_PAUSE)
    with file:
        yield


def _joined(folder: Path, cut: str) -> IO[str] | None:
    """The file whose lock those share who cut alike; None while others have it."""
    with _guard(folder):
        file = (folder / CLAIMS / "filling").open("a+", encoding="utf-8")
        if taken(file):
            file.truncate(0)
            file.write(cut)
            file.flush()
        else:
            file.seek(0)
            if file.read() != cut:
                file.close()
                return None
        # Nobody else takes it meanwhile: whoever wants to holds the guard.
        fcntl.flock(file, fcntl.LOCK_SH)
        return file


@contextlib.contextmanager
def _guard(folder: Path) -> Iterator[None]:
    with disk_errors(folder):
        (folder / CLAIMS).mkdir(parents=True, exist_ok=True)
        file = (folder / CLAIMS / "guard").open("a+", encoding="utf-8")
    with file:
        while not taken(file):
            time.sleep(_PAUSE / 10)
        yield


def shards_to_make(
    folder: Path, names: Sequence[str], begin: int = 0
) -> Iterator[tuple[int, bool]]:
    """The shards of a store as they get whole: those that this worker is to make, and the others'.

    Each is claimed while the caller makes it. What another one has claimed is waited for at the
    end, and made here if that one is lost.

    Args:
        folder: the store.
        names: of the shards.
        begin: number of the one to begin with, best another for each worker.

    Yields:
        Number of a shard, and whether it is to be made here; else another one has made it.
    """
    left = [*range(begin, len(names)), *range(begin)]
    while left:
        others = []
        for number in left:
            with claimed(folder / CLAIMS / f"{names[number]}.lock") as mine:
                # Whoever has made it let go of it after it was whole.
                whole = is_whole(folder, names[number])
                if mine or whole:
                    yield number, not whole
                else:
                    others.append(number)
        if len(others) == len(left):
            time.sleep(_PAUSE)
        left = others
