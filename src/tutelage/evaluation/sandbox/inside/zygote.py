"""The process that is started once in the sandbox, and forks two for each program.

It is told on its standard input, a socket, and never holds a program or its checks: those come as
handles that it passes on, so that nothing of one program is in the memory of the next.
"""

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import checks, landlock, program
from .locks import NOBODY, lock, take_handles
from .seccomp import build_filter

_LOCKS_FAILED = 70
_LOOK = 0.02
"""Seconds between two looks at what is in a folder."""
_LONGEST = 1 << 16
"""Bytes of a verdict, about."""

# Loaded once: programs import these, and would wait for each.
_USUAL = (
    "abc array bisect cmath collections copy dataclasses datetime decimal enum fractions functools"
    " hashlib heapq inspect itertools json math operator random re statistics string sys time"
    " typing unicodedata"
)


class Zygote:
    """What all programs of a worker have in common.

    Args:
        namespaces: whether bubblewrap has made them around this process.
        folder: where a program may write.
        readable: without namespaces, what it may read: paths and Landlock's rights.
    """

    def __init__(self, namespaces: bool, folder: str, readable: Mapping[str, int]) -> None:
        self.namespaces, self.folder = namespaces, folder
        self.system_calls = build_filter()
        self.rules: dict[bool, int | None] = {True: None, False: None}
        if not namespaces:
            writable = (
                landlock.READ_FILE | landlock.READ_DIR | landlock.WRITE_FILE | landlock.TRUNCATE
            ) | (landlock.MAKE_REG | landlock.REMOVE_FILE)
            self.rules = {
                True: landlock.ruleset({**readable, folder: writable}),
                False: landlock.ruleset(readable),
            }
        # In a home folder that is closed to others, nobody could not even read Python.
        self.stay_root = not namespaces and os.getuid() == 0 and not _nobody_reads(os.__file__)
        if not namespaces and os.getuid() == 0 and not self.stay_root:
            os.chown(folder, NOBODY, NOBODY)

    def fork(
        self,
        limits: Mapping[str, Any],
        handles: Sequence[int],
        serve: Callable[..., None],
        *,
        writes: bool,
    ) -> int:
        """The number of a new process that is shut in and does something.

        Args:
            limits: of the process.
            handles: what it keeps open; ``serve`` gets them, in order.
            serve: what it does.
            writes: whether it has a folder.
        """
        number = os.fork()
        if number:
            return number
        code = _LOCKS_FAILED
        with contextlib.suppress(BaseException):
            rules = self.rules[writes]
            kept = take_handles([*handles, *([] if rules is None else [rules])])
            lock(
                limits,
                self.system_calls,
                folder=self.folder if writes else None,
                namespaces=self.namespaces,
                rules=None if rules is None else kept.pop(),
                stay_root=self.stay_root,
            )
            code = 1
            serve(*kept)
            code = 0
        os._exit(code)

    def try_locks(self, limits: Mapping[str, Any]) -> str:
        """What goes wrong when a process shuts itself in; empty when nothing does."""
        read_end, write_end = os.pipe()
        if not os.fork():
            with contextlib.suppress(BaseException):
                try:
                    rules = self.rules[True]
                    kept = take_handles([write_end, *([] if rules is None else [rules])])
                    lock(
                        limits,
                        self.system_calls,
                        folder=self.folder,
                        namespaces=self.namespaces,
                        rules=None if rules is None else kept[1],
                        stay_root=self.stay_root,
                    )
                    os.write(kept[0], b"ok")
                except BaseException:
                    os.write(kept[0], traceback.format_exc(limit=-1).encode())
            os._exit(0)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as file:
            said = file.read().decode()
        os.wait()
        return "" if said == "ok" else said.strip().splitlines()[-1] if said else "it ended at once"

    def clean(self) -> None:
        """Empty the folder, where it is not gone by itself."""
        if not self.namespaces:
            for name in os.listdir(self.folder):
                os.unlink(os.path.join(self.folder, name))

    def full(self, most: int) -> bool:
        """Whether a program has written more than it may."""
        if self.namespaces:  # then the folder has a size
            return False
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            size = 0
            for count, entry in enumerate(entries):
                size += entry.stat(follow_symlinks=False).st_blocks * 512
                if size > most or count > 1000:
                    return True
        return False


def _nobody_reads(path: str) -> bool:
    """Whether the user nobody could open a file."""
    number = os.fork()
    if not number:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        os._exit(0 if os.access(path, os.R_OK) else 1)
    return os.waitpid(number, 0)[1] == 0


def run(zygote: Zygote, task: Mapping[str, Any], sources: Sequence[int], control: int) -> Any:
    """Run a program against its checks, and say how both ended.

    Args:
        zygote: what starts processes.
        task: ``limits`` and ``functions``.
        sources: handles of the program's text and of the checks'.
        control: where the one who asked is; when that is gone, all ends.
    """
    limits = task["limits"]
    calls, replies, verdicts = os.pipe(), os.pipe(), os.pipe()
    started = time.monotonic()
    ours = zygote.fork(
        limits, [calls[0], replies[1], sources[0]], program.serve, writes=True
    )  # the program
    judge = zygote.fork(
        limits,
        [calls[1], replies[0], sources[1], verdicts[1]],
        lambda *handles: checks.judge(*handles, functions=task["functions"]),
        writes=False,
    )
    for handle in (*calls, *replies, verdicts[1]):
        os.close(handle)
    verdict, ended = _awaited(zygote, verdicts[0], control, started, limits)
    for number in (ours, judge):
        os.kill(number, signal.SIGKILL)
    found = {"program": _status(ours), "checks": _status(judge)}
    os.close(verdicts[0])
    zygote.clean()
    seconds = time.monotonic() - started
    return {"verdict": verdict, "ended": ended, "seconds": seconds, **found}


def _awaited(
    zygote: Zygote, verdicts: int, control: int, started: float, limits: Mapping[str, Any]
) -> tuple[str, str]:
    """What the checks wrote, and why the wait ended: "", "time" or "files"."""
    written = b""
    look = None if zygote.namespaces else _LOOK
    while True:
        left = limits["seconds"] - (time.monotonic() - started)
        if left <= 0:
            return "", "time"
        ready, _, _ = select.select([verdicts, control], [], [], min(left, look or left))
        if control in ready:  # nobody says anything there now, but that they are gone
            os._exit(0)
        if verdicts in ready:
            part = os.read(verdicts, 1 << 16)
            if not part or len(written) > _LONGEST:
                return written[4:].decode("ascii", "replace"), ""
            written += part
        elif zygote.full(int(limits["files"])):
            return "", "files"


def _status(number: int) -> dict[str, Any]:
    """How a process ended: its exit code, or minus the signal; and its processor time."""
    _, status, used = os.wait4(number, 0)
    return {"code": os.waitstatus_to_exitcode(status), "cpu": used.ru_utime + used.ru_stime}


def load() -> None:
    """Import what programs usually do, once for all of them."""
    for name in _USUAL.split():
        __import__(name)


def serve() -> None:
    """Run programs until the one who started this is gone."""
    settings = json.loads(sys.argv[1])
    sys.path.pop(0)  # the folder of this package, whose names are not for programs
    os.environ.clear()
    folder = settings["folder"]
    os.environ |= {"HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", "PATH": ""}
    control = socket.socket(fileno=0)
    try:
        zygote = Zygote(**settings)
        problem = zygote.try_locks(json.loads(sys.argv[2]))
    except (OSError, ValueError) as error:
        problem = f"{type(error).__name__}: {error}"
    control.send(json.dumps({"problem": problem}).encode())
    if problem:
        return
    gc.collect()
    gc.freeze()
    while True:
        message, handles, _, _ = socket.recv_fds(control, 1 << 16, 2)
        if not message:
            return
        found = run(zygote, json.loads(message), handles, control.fileno())
        for handle in handles:
            os.close(handle)
        control.send(json.dumps(found).encode())
