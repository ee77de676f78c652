"""Run programs against their checks, many at a time, each shut in by itself."""

import contextlib
import functools
import json
import os
import queue
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from tutelage.errors import SandboxError
from tutelage.evaluation.sandbox.backends import BACKENDS, Library
from tutelage.evaluation.sandbox.limits import Limits, Outcome, outcome_of

_STARTING = 60.0
"""Seconds for the first process to start on however busy a machine."""
_GRACE = 30.0
"""Seconds beyond a program's own after which the sandbox itself is given up."""
_ENVIRONMENT = {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
"""All that is in the environment; texts hash alike each time, so that a verdict can be repeated."""


_PROOF = """
import os, socket
def tried():
    worked = []
    for name, what in {
        "reading": lambda: open("/etc/passwd"),
        "listing": lambda: os.listdir("/proc"),
        "writing": lambda: open("/var/tmp/tutelage", "w"),
        "forking": lambda: os.fork() or os._exit(0),
        "connecting": lambda: socket.socket(),
    }.items():
        try:
            what()
        except OSError:
            continue
        worked.append(name)
    return worked
"""


@dataclass(frozen=True)
class Task:
    """A program and what is to hold of it.

    Attributes:
        program: Python, as a model wrote it.
        checks: Python that raises where something does not hold. Names that it does not define are
            functions and classes of the program.
        entry_point: the function of the program that is checked.
    """

    program: str
    checks: str
    entry_point: str


class Worker:
    """A sandbox in which one program runs at a time.

    Args:
        backend: its name in the table.
        library: the Python that runs programs.

    Raises:
        SandboxError: it cannot be shut; the message says what the system said.
    """

    def __init__(self, backend: str, library: Library | None = None) -> None:
        self.backend, self._library, self._closed = backend, library or Library(), False
        self._start()
        self._prove()

    def _prove(self) -> None:
        """Let a program try what it must not do: some systems take locks and do not turn them."""
        outcome = self.run(Task(_PROOF, "assert tried() == []", "tried"), Limits())
        if not outcome.passed:
            self.close()
            raise SandboxError(f"{self.backend}: it does not hold a program ({outcome.why})")

    def _start(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tutelage-sandbox-")
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        limits = asdict(Limits())
        command = BACKENDS[self.backend].start(self._library, self._folder.name, limits)
        with tempfile.TemporaryFile() as errors:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=_ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                self._folder.cleanup()
                raise SandboxError(f"{self.backend}: {error}") from error
            finally:
                theirs.close()
            problem = self._first_words()
            if problem is None:
                self._process.wait(1)
                errors.seek(0)
                problem = errors.read().decode(errors="replace").strip()[-300:] or "it ended"
        if problem:
            self._end()
            raise SandboxError(f"{self.backend}: {problem}")

    def _first_words(self) -> str | None:
        """What goes wrong inside; empty for nothing, None when it says nothing."""
        self._control.settimeout(_STARTING)
        try:
            return json.loads(self._control.recv(1 << 16))["problem"]
        except (OSError, ValueError):
            self._kill()
            return None

    def run(self, task: Task, limits: Limits) -> Outcome:
        """Run a program against its checks.

        Args:
            task: both.
            limits: what it may use.
        """
        request = {"limits": asdict(limits), "functions": [task.entry_point]}
        with _file(task.program) as program, _file(task.checks) as checks:
            self._control.settimeout(limits.seconds + _GRACE)
            try:
                socket.send_fds(self._control, [json.dumps(request).encode()], [program, checks])
                found = json.loads(self._control.recv(1 << 17))
                verdict = json.loads(found["verdict"] or "{}")
            except (OSError, ValueError):
                # Whatever it was, nothing was shown to be right; the next program gets a new one.
                self._end()
                if not self._closed:
                    self._start()
                return Outcome(False, "the sandbox ended", limits.seconds)
        return outcome_of(found, verdict, limits)

    def close(self) -> None:
        """End every process of the sandbox; what another thread runs there has not passed."""
        self._closed = True
        self._end()

    @property
    def group(self) -> int:
        """The process group, and session, of all its processes."""
        return self._process.pid

    def _end(self) -> None:
        self._kill()
        self._process.wait()
        self._control.close()
        self._folder.cleanup()

    def _kill(self) -> None:
        # Processes in there cannot leave this group: they may not make one.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


@contextlib.contextmanager
def _file(text: str) -> Iterator[int]:
    """A handle of a file in memory that holds a text."""
    handle = os.memfd_create("text")
    try:
        content = memoryview(text.encode("utf-8", "surrogatepass"))
        while content:
            content = content[os.write(handle, content) :]
        yield handle
    finally:
        os.close(handle)


@functools.lru_cache(maxsize=1)
def find_backend() -> str:
    """The best backend that really works here.

    Raises:
        SandboxError: none does; the message says why, one by one, and what to do.
    """
    reasons = []
    for name, backend in BACKENDS.items():
        missing = backend.missing()
        try:
            if not missing:
                Worker(name).close()
                return name
        except SandboxError as error:
            missing = str(error).removeprefix(f"{name}: ")
        reasons.append(f"{name}: {missing}")
    raise SandboxError(
        "Programs that a model wrote cannot be run here, because nothing can shut them in"
        f" ({'; '.join(reasons)}). On Linux, install it with `apt install bubblewrap libseccomp2`"
        " or use a kernel of 5.13 or newer with Landlock; elsewhere, evaluate in a Linux container"
        " or virtual machine. The answers can be kept and scored there."
    )


class Sandbox:
    """A number of workers; use it in a ``with`` block.

    Args:
        workers: programs at a time.
        backend: name of a row of the table; the best that works here by default.

    Raises:
        SandboxError: none can be started.
    """

    def __init__(self, workers: int = 1, backend: str | None = None) -> None:
        self.backend = backend or find_backend()
        self._workers: list[Worker] = []
        self._free: queue.Queue[Worker] = queue.Queue()
        try:
            for _ in range(workers):
                self._workers.append(Worker(self.backend))
        except BaseException:
            self.close()
            raise
        for worker in self._workers:
            self._free.put(worker)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def run(self, task: Task, limits: Limits | None = None) -> Outcome:
        """Run one program; any thread may ask, and waits for a worker."""
        worker = self._free.get()
        try:
            return worker.run(task, limits or Limits())
        finally:
            self._free.put(worker)

    def run_all(
        self,
        tasks: Sequence[Task],
        limits: Limits | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Outcome]:
        """Run programs, as many at a time as there are workers.

        Args:
            tasks: what to run.
            limits: what each may use.
            progress: called with (programs done, programs in all), in order.

        Returns:
            What became of each, in the order of the tasks.
        """
        found: list[Outcome] = []
        with ThreadPoolExecutor(max(1, len(self._workers))) as threads:
            futures = [threads.submit(self.run, task, limits) for task in tasks]
            try:
                for done, future in enumerate(futures, 1):
                    found.append(future.result())
                    if progress is not None:
                        progress(done, len(tasks))
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                self.close()  # or this would wait for what is running
                raise
        return found

    def close(self) -> None:
        """End all workers."""
        for worker in self._workers:
            worker.close()


def run_checked(
    program: str, checks: str, entry_point: str, limits: Limits | None = None
) -> Outcome:
    """Run one program against its checks, in a sandbox of its own.

    The checks run in another process than the program, which never sees them: it is called with
    plain values and gives plain values, and those alone are compared.

    Args:
        program: Python that nobody trusts.
        checks: Python that raises where something does not hold.
        entry_point: the function of the program that the checks call.
        limits: what it may use.

    Raises:
        SandboxError: nothing here can shut a program in.
    """
    with Sandbox() as sandbox:
        return sandbox.run(Task(program, checks, entry_point), limits)
