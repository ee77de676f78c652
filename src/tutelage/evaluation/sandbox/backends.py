"""What shuts programs in: a small table, best first.

Both start the same process (``inside.zygote``), and whatever it starts is held by the same filter
of system calls, the same limits and no rights. They differ in how files are kept from it:
bubblewrap gives it a file system of its own, with nothing but Python's library; Landlock leaves it
the file system and lets it open that library alone.
"""

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tutelage.evaluation.sandbox.inside import landlock
from tutelage.evaluation.sandbox.inside.locks import NOBODY, PLACE

_INSIDE = Path(__file__).parent / "inside"
_SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
_SINGLE = ("/etc/ld.so.cache", "/usr/share/zoneinfo", "/etc/localtime")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
# What modules would do after every fork (seed `random`, make locks anew) touches pages and is not
# needed: programs are seeded, and no thread holds a lock. With -m the folder where it runs would be
# one of modules.
_START = """
import os, sys
sys.path[0] = sys.argv.pop(1)
register, os.register_at_fork = os.register_at_fork, lambda **_: None
from inside.zygote import load, serve
load()
os.register_at_fork = register
serve()
"""


@dataclass(frozen=True)
class Library:
    """Where a Python is, and what a program needs of it.

    Attributes:
        python: the interpreter itself, not a link of a virtual environment.
        prefix: what it is installed in.
        standard: its standard library.
    """

    python: str = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    prefix: str = sys.base_prefix
    standard: str = sysconfig.get_path("stdlib")

    @property
    def folders(self) -> list[str]:
        """Folders of libraries, each once, those of others not within them."""
        wanted = [*_SYSTEM, f"{self.prefix}/lib", f"{self.prefix}/lib64", self.standard]
        real = sorted({os.path.realpath(path) for path in wanted if os.path.isdir(path)})
        return [p for p in real if not any(p.startswith(f"{other}/") for other in real)]

    @property
    def hidden(self) -> list[str]:
        """Folders of installed packages: programs get the standard library alone.

        A package may carry the answers of a benchmark; and what is installed here is not there.
        """
        return sorted(
            str(found)
            for folder in self.folders
            for pattern in ("*-packages", "python3*/*-packages")
            for found in Path(folder).glob(pattern)
            if found.name in ("site-packages", "dist-packages") and found.is_dir()
        )


@dataclass(frozen=True)
class Backend:
    """One way to shut programs in.

    Attributes:
        summary: one line for lists.
        command: from a library, a folder and the arguments for the zygote to the command line.
        namespaces: whether processes have a view of the system of their own.
        missing: what is not there that it needs, in words; empty when nothing is.
    """

    summary: str
    command: Callable[[Library, list[str]], list[str]]
    namespaces: bool
    missing: Callable[[], str]

    def start(self, library: Library, folder: str, limits: dict) -> list[str]:
        """The command line that starts the zygote.

        Args:
            library: the Python that runs programs.
            folder: an empty folder, for programs to write into.
            limits: with which it tries whether everything is shut.
        """
        settings = {
            "namespaces": self.namespaces,
            "folder": PLACE if self.namespaces else folder,
            "readable": {} if self.namespaces else _readable(library),
        }
        return self.command(library, [json.dumps(settings), json.dumps(limits)])


def _python(library: Library, home: str, arguments: list[str]) -> list[str]:
    return [library.python, "-S", "-B", "-c", _START, home, *arguments]


def _bubblewrapped(library: Library, arguments: list[str]) -> list[str]:
    """A file system with the library alone, no network, and no other process in sight."""
    words = [shutil.which("bwrap") or "bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc"]
    words += ["--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox"]
    words += ["--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"]
    if os.getuid() == 0:  # the zygote makes nobody of each program
        for right in ("CAP_SETUID", "CAP_SETGID", "CAP_KILL"):
            words += ["--cap-add", right]
    else:
        words += ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
    bound = (*library.folders, *_SINGLE, library.python)
    above = {str(parent) for path in (*bound, *_DEVICES) for parent in Path(path).parents} - {"/"}
    for path in sorted(above):  # or bubblewrap makes them for their owner alone
        words += ["--perms", "0755", "--dir", path]
    for path in bound:
        words += ["--ro-bind-try", path, path]
    for path in ("/lib", "/lib64"):
        if os.path.islink(path):
            words += ["--symlink", os.path.realpath(path).lstrip("/"), path]
    for path in library.hidden:
        words += ["--tmpfs", path, "--remount-ro", path]
    for path in _DEVICES:
        words += ["--dev-bind-try", path, path]
    words += ["--ro-bind", str(_INSIDE), "/sandbox/inside", "--dir", PLACE, "--remount-ro", "/"]
    return [*words, "--chdir", "/", "--", *_python(library, "/sandbox", arguments)]


def _landlocked(library: Library, arguments: list[str]) -> list[str]:
    return _python(library, str(_INSIDE.parent), arguments)


def _readable(library: Library) -> dict[str, int]:
    """Landlock's rights to what a program may read; rules cannot take back what one above gives."""
    found: dict[str, int] = dict.fromkeys(_SINGLE, landlock.READ_FILE | landlock.READ_DIR)
    found |= dict.fromkeys(_DEVICES, landlock.READ_FILE)
    found["/dev/null"] |= landlock.WRITE_FILE
    hidden = library.hidden

    def allow(path: str) -> None:
        if path in hidden:
            return
        if any(each.startswith(f"{path}/") for each in hidden):
            found[path] = landlock.READ_DIR
            for entry in os.listdir(path):
                allow(os.path.join(path, entry))
        else:
            found[path] = landlock.READ_FILE | landlock.READ_DIR

    for folder in library.folders:
        allow(folder)
    return found


def _no_bubblewrap() -> str:
    return "" if shutil.which("bwrap") else "the program bwrap is not installed"


def _no_landlock() -> str:
    return "" if sys.platform == "linux" and landlock.version() else "the kernel has no Landlock"


BACKENDS: dict[str, Backend] = {
    "bubblewrap": Backend(
        "namespaces: a file system of its own, no network, no other process",
        _bubblewrapped,
        namespaces=True,
        missing=_no_bubblewrap,
    ),
    "landlock": Backend(
        "the kernel's own rules for files; where namespaces are not allowed",
        _landlocked,
        namespaces=False,
        missing=_no_landlock,
    ),
}
