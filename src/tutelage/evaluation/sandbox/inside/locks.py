"""How a process shuts itself in before it runs what it does not trust; nothing of it is undone."""

import ctypes
import fcntl
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from .landlock import restrict
from .seccomp import LIBC, load_filter

NOBODY = 65534
PLACE = "/tmp"
"""Where a program's own folder is mounted, inside namespaces."""

_NEW_MOUNTS, _NEW_IPC = 0x00020000, 0x08000000
_MOUNT_FLAGS = 2 | 4 | 8  # no set-user-id, no devices, no execution
_MOST_HANDLES = 64
_FIRST = 3


def take_handles(handles: Sequence[int]) -> list[int]:
    """Keep these handles alone, as 3, 4, ...; input is empty and output goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    every = (nowhere, nowhere, nowhere, *handles)
    high = [fcntl.fcntl(handle, fcntl.F_DUPFD, 100) for handle in every]  # out of the way
    for number, handle in enumerate(high):
        os.dup2(handle, number, inheritable=True)
    os.closerange(len(high), max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 4096))
    return list(range(_FIRST, len(high)))


def limit(limits: Mapping[str, Any]) -> None:
    """Set the limits that the kernel holds a process to."""
    cpu = max(1, int(limits["cpu_seconds"] + 0.999))
    for name, most in {
        "RLIMIT_CPU": cpu,
        "RLIMIT_AS": int(limits["memory"]),
        "RLIMIT_FSIZE": int(limits["files"]),
        "RLIMIT_NOFILE": _MOST_HANDLES,
        "RLIMIT_NPROC": 0,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
    }.items():
        resource.setrlimit(getattr(resource, name), (most, most))


def own_folder(size: int) -> None:
    """Mount a folder that this process alone sees, and that is gone when it ends."""
    _check(LIBC.unshare(_NEW_MOUNTS | _NEW_IPC), "namespaces are not allowed")
    options = f"size={size},nr_inodes=1024,mode=700,uid={_user()},gid={_user()}"
    flags = ctypes.c_ulong(_MOUNT_FLAGS)
    mounted = LIBC.mount(b"tmpfs", PLACE.encode(), b"tmpfs", flags, options.encode())
    _check(mounted, "a temporary folder cannot be mounted")


def _user() -> int:
    return NOBODY if os.getuid() == 0 else os.getuid()


def drop_rights(*, stay_root: bool) -> None:
    """Become nobody where this is root, and give up all capabilities.

    Args:
        stay_root: keep root's number, without its capabilities, where nobody could not read Python.
    """
    if os.getuid() == 0 and not stay_root:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _check(LIBC.capset(header, (ctypes.c_uint32 * 6)()), "capabilities cannot be given up")
    # After the change of user, which would undo it: end with the process that started this one.
    _check(LIBC.prctl(1, signal.SIGKILL, 0, 0, 0), "no signal at the parent's end")
    _check(LIBC.prctl(4, 0, 0, 0, 0), "memory cannot be closed to others")  # PR_SET_DUMPABLE


def _check(failed: int, words: str) -> None:
    if failed:
        raise OSError(ctypes.get_errno(), words)


def lock(
    limits: Mapping[str, Any],
    system_calls: bytes,
    *,
    folder: str | None,
    namespaces: bool,
    rules: int | None,
    stay_root: bool,
) -> None:
    """Shut this process in.

    Args:
        limits: as :func:`limit` takes them, with ``files``, the bytes of the folder.
        system_calls: the filter.
        folder: where it may write; None for nowhere.
        namespaces: whether that folder is a new one of this process alone.
        rules: handle of Landlock's rules, where there are no namespaces.
        stay_root: see :func:`drop_rights`.
    """
    if namespaces and folder:
        own_folder(int(limits["files"]))
    drop_rights(stay_root=stay_root)
    os.chdir(folder or "/")
    if rules is not None:
        restrict(rules)
        os.close(rules)
    limit(limits)
    load_filter(system_calls)
