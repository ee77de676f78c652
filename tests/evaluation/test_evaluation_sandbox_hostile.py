"""Every hostile program is contained, and none is scored right, on each backend that works here."""

import os
import re
import socket
import stat
import threading
import time
from pathlib import Path

import hostile
import pytest

from tutelage.errors import SandboxError
from tutelage.evaluation.sandbox import BACKENDS, Limits, Task
from tutelage.evaluation.sandbox.pool import Worker

BAIT = f"The expected value is {hostile.SECRET}.\n"
USUAL = {"seconds": 20, "cpu_seconds": 5, "memory": 1 << 28}
HONEST = Task("def f(x):\n    return x + 1\n", "assert f(3) == 4", "f")


@pytest.fixture(scope="module", params=BACKENDS)
def worker(request):
    try:
        found = Worker(request.param)
    except SandboxError as error:
        pytest.skip(str(error))
    yield found
    found.close()


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    path = tmp_path_factory.mktemp("outside") / "answers.jsonl"
    path.write_text(BAIT)
    path.chmod(0o644)
    return path


@pytest.fixture(scope="module")
def listener():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        found.listen()
        found.settimeout(0)
        yield found


def processes(group):
    """All processes of a session, wherever they are."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            # pid (name) state parent group session
            words = (place / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(words[3]) == group and words[0] != "Z":
            found.append(int(place.name))
    return sorted(found)


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(each, id=each.name, marks=[pytest.mark.slow] if each.slow else [])
        for each in hostile.ALL
    ],
)
def test_it_is_contained_and_not_right(worker, outside, listener, program, monkeypatch):
    monkeypatch.setenv("API_KEY", hostile.SECRET)
    before, mode = processes(worker.group), outside.stat().st_mode
    task = Task(program.text(outside, listener.getsockname()[1]), hostile.CHECKS, "f")
    outcome = worker.run(task, Limits(**{**USUAL, **dict(program.limits)}))
    assert not outcome.passed
    assert re.match(program.why, outcome.why), outcome.why
    assert outside.read_text() == BAIT and outside.stat().st_mode == mode
    assert sorted(outside.parent.iterdir()) == [outside]
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert processes(worker.group) == before
    assert worker.run(HONEST, Limits()).passed


def test_there_are_many_of_them():
    assert len(hostile.ALL) >= 70 and len({each.name for each in hostile.ALL}) == len(hostile.ALL)


PLANTED = ("conftest.py", "sitecustomize.py", "json.py", "left.txt")
PLANTING = f"""
import os
def f(x):
    for name in {PLANTED}:
        with open(name, "w") as file: file.write("raise SystemExit(0)")
    return len(os.listdir("."))
"""


def test_what_a_program_leaves_behind_the_next_does_not_find(worker):
    first = worker.run(Task(PLANTING, f"assert f(3) == {len(PLANTED)}", "f"), Limits())
    assert first.passed  # it may write there, while it runs
    looking = "import os, json\ndef f(x): return os.listdir('.'), json.loads('1')"
    assert worker.run(Task(looking, "assert f(3) == ([], 1)", "f"), Limits()).passed


def test_the_folder_is_its_own_and_can_be_used(worker):
    program = """
import os, tempfile
def f(x):
    with tempfile.TemporaryFile() as file:
        file.write(b"text"); file.seek(0)
        return file.read(), os.getcwd() == os.environ["HOME"] == tempfile.gettempdir()
"""
    assert worker.run(Task(program, "assert f(3) == (b'text', True)", "f"), Limits()).passed


def test_a_program_is_nobody_without_rights(worker):
    program = """
import ctypes, os
def f():
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    return os.getuid()
"""
    checks = f"assert f() in (65534, {os.getuid()})"
    if worker.backend == "bubblewrap":
        checks = "assert f() == 65534"
    assert worker.run(Task(program, checks, "f"), Limits()).passed


def test_the_sandbox_outlives_its_own_process(worker):
    """Whatever ends it, the program has not passed, and the next one runs."""

    def end():
        time.sleep(0.2)
        os.killpg(worker.group, 9)

    killer = threading.Thread(target=end)
    killer.start()
    sleeping = Task("import time\ndef f(x): time.sleep(10)", "f(3)", "f")
    assert worker.run(sleeping, Limits()).why == "the sandbox ended"
    killer.join()
    assert worker.run(HONEST, Limits()).passed


def test_nothing_is_left_when_it_is_closed(worker):
    other = Worker(worker.backend)
    group, folder = other.group, other._folder.name
    assert processes(group) and stat.S_ISDIR(os.stat(folder).st_mode)
    other.close()
    for _ in range(200):  # the kernel takes its time to end a namespace
        if not processes(group):
            break
        time.sleep(0.05)
    assert not processes(group) and not os.path.exists(folder)
