"""Kill a run before the file operation of a number, or before one that is described."""

import os
import re
import sys
import traceback

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


def run_to(recipe, run_dir, below, *, kill_at=None, kill_before=None):
    """Run in a child that dies before an operation.

    Args:
        recipe: the recipe.
        run_dir: the run folder.
        below: operations below this folder count.
        kill_at: number of the operation, from 0.
        kill_before: pattern of the operation.

    Returns:
        Whether the child was killed, and the operations that it did.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        done = 0

        def hook(event, arguments):
            nonlocal done
            found = operation(event, arguments, str(below))
            if found is None:
                return
            if done == kill_at or (kill_before and re.search(kill_before, found)):
                os._exit(KILLED)
            done += 1
            os.write(writing, found.encode() + b"\n")

        try:
            from tutelage.pipeline import run

            sys.addaudithook(hook)
            run(recipe, run_dir=run_dir, quiet=True)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        operations = pipe.read().splitlines()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED), "the child failed by itself"
    return code == KILLED, operations
