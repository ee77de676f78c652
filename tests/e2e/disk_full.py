"""A disk that is full from some file operation on, and a command that meets it."""

import contextlib
import errno
import gc
import os
import subprocess
import sys
import traceback

from kill_points import operation

from tutelage.errors import TutelageError

SIZE = 64 << 20


class Disk:
    """A file system of its own where this process may mount one, else a folder.

    Args:
        path: where it is to be.
    """

    def __init__(self, path):
        self.path = path
        path.mkdir()
        options = ["-t", "tmpfs", "-o", f"size={SIZE},mode=755", "tmpfs"]
        with open(os.devnull, "w") as nowhere:
            done = subprocess.run(["mount", *options, path], stderr=nowhere)
        self.mounted = done.returncode == 0
        self._refuses = False

    def close(self):
        """Take it away."""
        if self.mounted:
            subprocess.run(["umount", "-l", self.path], check=True)

    def fill(self):
        """Leave no room; without a file system of our own, refuse what would be written."""
        if not self.mounted:
            self._refuses = True
            return
        handle = os.open(self.path / "ballast", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(handle, bytes(1 << 20))
        with contextlib.suppress(OSError):
            while True:
                os.write(handle, bytes(1))
        os.close(handle)

    def free(self):
        """Make room again."""
        (self.path / "ballast").unlink(missing_ok=True)
        self._refuses = False

    def refused(self, found):
        """Raise what the system would for an operation that needs room."""
        if self._refuses and found.startswith(("open", "os.mkdir")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), found.split(" ", 1)[1])


def attempt(work, disk, full_before=None):
    """Work in a child, on a disk that is full from an operation on.

    Args:
        work: the command.
        disk: see :class:`Disk`.
        full_before: number of the operation, from 0; None: there is room.

    Returns:
        Exit code, as of the command line; its words; the operations that it began.
    """
    reading, writing = os.pipe()
    telling, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.close(telling)
        code, count, busy = 99, [0], [False]

        def hook(event, arguments):
            if busy[0]:
                return
            found = operation(event, arguments, str(disk.path))
            if found is None:
                return
            busy[0] = True
            if count[0] == full_before:
                disk.fill()
            count[0] += 1
            busy[0] = False
            disk.refused(found)

        try:
            gc.freeze()
            sys.addaudithook(hook)
            work()
            code = 0
        except TutelageError as error:
            code = 2
            os.write(writing, str(error).encode())
        except BaseException:
            traceback.print_exc()
            os.write(writing, traceback.format_exc()[-3000:].encode())
        finally:
            os.write(told, str(count[0]).encode())
            sys.stderr.flush()
            os._exit(code)
    os.close(writing)
    os.close(told)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    with os.fdopen(telling) as pipe:
        operations = int(pipe.read() or 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said, operations
