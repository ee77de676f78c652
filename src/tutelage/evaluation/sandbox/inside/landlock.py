"""Files that a program may open, where there are no namespaces: Landlock, asked of the kernel.

The three system calls have the same numbers on every processor. They are made here with ctypes
because the package of that name on the index is a development release which knows of no networks
and scopes; what is needed are these few lines.
"""

import ctypes
import os
from collections.abc import Mapping

from .seccomp import LIBC, set_no_new_privileges

_CREATE, _ADD, _RESTRICT = 444, 445, 446

# Rights by name; a kernel of a given version of Landlock knows the first so many.
WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
REMOVE_FILE, MAKE_REG, TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_KNOWN = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_OF_FILES = 1 << 0 | WRITE_FILE | READ_FILE | TRUNCATE | 1 << 15
_NETWORK, _SCOPES = 0b11, 0b11


class _Handled(ctypes.Structure):
    _fields_ = [
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("handle", ctypes.c_int32)]


def version() -> int:
    """Which Landlock the kernel has; 0 for none."""
    return max(0, LIBC.syscall(_CREATE, None, ctypes.c_size_t(0), 1))


def ruleset(allowed: Mapping[str, int]) -> int:
    """A handle of rules that allow what is given and nothing else.

    Args:
        allowed: files and folders, with the rights to them and all beneath; those that are not
            there are passed over.

    Raises:
        OSError: the kernel has no Landlock.
    """
    known = version()
    if not known:
        raise OSError("the kernel has no Landlock, or it is switched off")
    every = (1 << _KNOWN.get(known, 16)) - 1
    handled = _Handled(every, _NETWORK if known >= 4 else 0, _SCOPES if known >= 6 else 0)
    size = ctypes.sizeof(_Handled) if known >= 6 else 16 if known >= 4 else 8
    handle = LIBC.syscall(_CREATE, ctypes.byref(handled), ctypes.c_size_t(size), 0)
    if handle < 0:
        raise OSError(ctypes.get_errno(), "Landlock takes no rules")
    for path, rights in allowed.items():
        try:
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        is_folder = os.path.isdir(path)
        rule = _Beneath(rights & every & (every if is_folder else _OF_FILES), opened)
        if rule.allowed and LIBC.syscall(_ADD, handle, 1, ctypes.byref(rule), 0):
            raise OSError(ctypes.get_errno(), f"Landlock takes no rule for {path}")
        os.close(opened)
    return handle


def restrict(handle: int) -> None:
    """Hold this process to the rules for good."""
    set_no_new_privileges()
    if LIBC.syscall(_RESTRICT, handle, 0):
        raise OSError(ctypes.get_errno(), "Landlock does not take hold")
