"""Stop a run before file operations, and leave on the disk what a kill would leave then."""

import contextlib
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

WRITES = os.O_WRONLY | os.O_RDWR
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}
KILLED = 9


def operation(event, arguments, below):
    """A file operation below a folder in words, or None: every change that Python makes."""
    if event == "open":
        path, _, flags = arguments
        if not isinstance(path, str) or not flags & WRITES or not path.startswith(below):
            return None
        return f"open {path}"
    if event not in CHANGES:
        return None
    paths = [os.fspath(one) for one in arguments if isinstance(one, str | os.PathLike)]
    inside_a_removal = arguments[-1] != -1 and event in ("os.remove", "os.rmdir")
    if inside_a_removal or any(path.startswith(below) for path in paths):
        return f"{event} {' -> '.join(paths)}"
    return None


def _run_child(recipe, run_dir, below, before):
    """In a child: run, and call ``before`` with each operation; never returns."""

    def hook(event, arguments):
        found = operation(event, arguments, str(below))
        if found is not None:
            before(found)

    gc.freeze()  # trainers collect garbage, and would look through all of the parent's
    try:
        from tutelage.pipeline import run

        sys.addaudithook(hook)
        run(recipe, run_dir=run_dir, quiet=True)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def run_to(recipe, run_dir, below, *, kill_before=None):
    """Run in a child that dies before an operation.

    Args:
        recipe: the recipe.
        run_dir: the run folder.
        below: operations below this folder count.
        kill_before: pattern of the operation.

    Returns:
        Whether the child was killed, and the operations that it did.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)

        def before(found):
            if kill_before and re.search(kill_before, found):
                os._exit(KILLED)
            os.write(writing, found.encode() + b"\n")

        _run_child(recipe, run_dir, below, before)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        operations = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED), "the child failed by itself"
    return code == KILLED, operations


def stops(recipe, run_dir, below, wanted):
    """Run once, in a child that waits before the operations that are wanted.

    What is on the disk then is what a kill would leave: one run shows all of it, where killing
    takes half a run for each. See :func:`as_if_killed`.

    Args:
        recipe: the recipe.
        run_dir: the run folder.
        below: operations below this folder count.
        wanted: says of an operation, by its number from 0 and in words, whether to stop there.

    Yields:
        Number and words of an operation, while the child waits.
    """
    reading, telling = os.pipe()
    waiting, waking = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.close(waking)

        def before(found):
            os.write(telling, found.encode() + b"\n")
            if not os.read(waiting, 1):
                os._exit(KILLED)

        _run_child(recipe, run_dir, below, before)
    os.close(telling)
    os.close(waiting)
    try:
        with os.fdopen(reading, encoding="utf-8") as pipe:
            for number, line in enumerate(pipe):
                if wanted(number, line.strip()):
                    yield number, line.strip()
                os.write(waking, b".")
    finally:
        os.close(waking)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the child failed by itself"


@contextlib.contextmanager
def as_if_killed(folder):
    """In the block a copy takes the place of a folder in which a run waits; nobody holds locks."""
    aside = Path(tempfile.mkdtemp(dir=folder.parent))
    there = folder.exists()
    if there:
        subprocess.run(["cp", "-a", folder, aside / "copy"], check=True)
        os.rename(folder, aside / "waits")
        os.rename(aside / "copy", folder)
    yield
    shutil.rmtree(folder, ignore_errors=True)
    if there:
        os.rename(aside / "waits", folder)
    aside.rmdir()
