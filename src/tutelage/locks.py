"""Locks between processes, which end with them; and what runs that share a cache do with them."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tutelage.errors import RunFolderError
from tutelage.files import disk_errors, remove_leftovers

LOCKS = ".locks"
_USERS = "users"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What file systems answer that have no locks."""


@contextlib.contextmanager
def used(cache: Path) -> Iterator[None]:
    """Use a cache for the time of the block; what killed runs left goes when nobody else does.

    A cache in which nothing was made is not left behind.
    """
    with _signed_in(cache) as file:
        try:
            yield
        finally:
            if taken(file):
                _leave_no_empty(cache)


def _signed_in(cache: Path) -> IO[str]:
    """The file whose lock the users of a cache share, with this one among them."""
    path = cache / LOCKS / _USERS
    while True:
        with disk_errors(cache):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = path.open("a+", encoding="utf-8")
            except FileNotFoundError:  # who left last has just removed an empty cache
                continue
        if taken(file):
            remove_leftovers(cache)
            for lock in path.parent.glob("*"):  # nobody holds one, or is about to
                if lock.name != _USERS:
                    lock.unlink(missing_ok=True)
        fcntl.flock(file, fcntl.LOCK_SH)
        if is_at(file, path):
            return file
        file.close()  # removed before it was locked: whoever comes next would not see this lock


@contextlib.contextmanager
def unused(cache: Path) -> Iterator[None]:
    """Keep every run off a cache for the time of the block; one that is started waits for its end.

    Raises:
        RunFolderError: a run uses it.
    """
    with disk_errors(cache):
        (cache / LOCKS).mkdir(parents=True, exist_ok=True)
        file = (cache / LOCKS / _USERS).open("a+", encoding="utf-8")
    with file:
        if not taken(file):
            raise RunFolderError(
                f"A run uses '{cache}' and may need what looks unused. Wait for it to end, then"
                " clean."
            )
        try:
            yield
        finally:
            _leave_no_empty(cache)


def _leave_no_empty(cache: Path) -> None:
    if os.listdir(cache) == [LOCKS]:
        shutil.rmtree(cache, ignore_errors=True)


@contextlib.contextmanager
def held(
    cache: Path, name: str, run: Path, tell: Callable[[str], Any], title: str = ""
) -> Iterator[None]:
    """Be the only run that makes a thing in the cache; wait while another one does.

    Args:
        cache: the folder that the runs share.
        name: of the thing.
        run: this run's folder, told to those who wait.
        tell: called with a line when there is somebody to wait for.
        title: what to call the thing there; its name when left out.
    """
    (cache / LOCKS).mkdir(parents=True, exist_ok=True)
    with (cache / LOCKS / name).open("a+", encoding="utf-8") as file:
        if not taken(file):
            file.seek(0)
            tell(f"waiting for {file.read().strip() or 'another run'}, which makes {title or name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} ({run})")
        file.flush()
        yield


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether a piece of work is this process's alone for the block; it ends with the process.

    Args:
        path: the file that stands for it; it goes when the work is done.

    Raises:
        RunFolderError: the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        mine = taken(file) and is_at(file, path)
        try:
            yield mine
        finally:
            if mine:
                path.unlink(missing_ok=True)


def taken(file: IO[str]) -> bool:
    """Take a lock on an open file if it can be had at once; whether it could.

    Raises:
        RunFolderError: the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise RunFolderError(
            f"'{file.name}' cannot be locked: its file system has no locks ({error.strerror}), and"
            " by these runs that share a folder keep out of each other's way. Choose a folder on"
            " another disk, or have this one mounted with locks (NFS: with its lock service;"
            " Lustre: with the option flock)."
        ) from error
    return True


def is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is the one at a path, and was not removed after it was opened."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
