"""Commands that are killed at random moments, each counted: in one process or in several."""

import os
import random
import signal
import socket
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field

_GRACE = 5.0
"""Seconds that the others of a killed process have, as torchrun gives them before it kills."""


@dataclass
class Counted:
    """What was done to a command until it got through, again and again.

    Attributes:
        kills: by what the newest file was called when they came.
        through: how often the command got through after kills, with the right results.
    """

    kills: Counter = field(default_factory=Counter)
    through: int = 0

    @property
    def total(self):
        return sum(self.kills.values())


def fork(work, processes, together=True):
    """Children that do one thing, together as torchrun would start them, or each as if alone."""
    address = {}
    if processes > 1 and together:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        address |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            _child(work, {**address, "RANK": str(rank), "LOCAL_RANK": str(rank)} if address else {})
        children.append(child)
    return children


def _child(work, variables):
    """Do it, and end: 0 when it got through, 1 with a traceback when not; never returns."""
    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.environ.update(variables)
        work()
        from tutelage.pipeline.context.processes import _part

        _part()
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def ended(children):
    """Whether all have got through by themselves."""
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return all(code == 0 for code in codes)


def killed_after(children, seconds, rng):
    """Kill one of the processes after a time, and what is left of the others as torchrun does.

    Returns:
        Whether a kill came before the end.
    """
    until, left = time.monotonic() + seconds, [*children]
    while time.monotonic() < until:
        for child in [*left]:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert status == 0, "a child failed by itself"
                left.remove(child)
        if not left:
            return False
        time.sleep(0.002)
    if len(left) < len(children):  # some have ended, and the others are about to
        assert ended(left)
        return False
    victim = rng.choice(left)
    os.kill(victim, signal.SIGKILL)
    os.waitpid(victim, 0)
    _end_the_others([child for child in left if child != victim])
    return True


def _end_the_others(left):
    for child in left:
        os.kill(child, signal.SIGTERM)
    until = time.monotonic() + _GRACE
    while left and time.monotonic() < until:
        left = [child for child in left if not os.waitpid(child, os.WNOHANG)[0]]
        time.sleep(0.01)
    for child in left:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def newest(folder):
    """What the file that was written last is called, without what tells it from its like."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            try:
                found.append((os.lstat(path).st_mtime_ns, os.path.relpath(path, folder)))
            except FileNotFoundError:
                continue
    return max(found)[1] if found else "nothing yet"


def count_kills(work, check, place, *, wanted, processes, together, seed, life, in_a_row=10):
    """Kill a command again and again until it gets through, and begin anew until kills suffice.

    Args:
        work: called with a folder, in children: the command.
        check: called with the folder when it got through; raises AssertionError when the result is
            not that of an unbroken one.
        place: called with a number, makes such a folder.
        wanted: how many kills.
        processes: how many do it.
        together: whether they know of each other; see :func:`fork`.
        seed: of the moments.
        life: seconds that an unbroken one takes; moments are uniform below.
        in_a_row: after so many kills it is left alone.
    """
    rng, counted, number = random.Random(seed), Counted(), 0
    while counted.total < wanted:
        folder, number, row = place(number), number + 1, 0
        while row < in_a_row and counted.total < wanted:
            children = fork(lambda folder=folder: work(folder), processes, together)
            if not killed_after(children, rng.uniform(0, life), rng):
                break
            counted.kills[newest(folder)] += 1
            row += 1
        assert ended(fork(lambda folder=folder: work(folder), processes, together))
        check(folder)
        counted.through += row > 0
    return counted
