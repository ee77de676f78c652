"""The same attacks when an ordinary user runs the sandbox, and with the system's own Python."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import tutelage

pytestmark = pytest.mark.slow

SCRIPT = """
import json, pathlib, re, sys, tempfile
import hostile
from tutelage.errors import SandboxError
from tutelage.evaluation.sandbox import BACKENDS, Limits, Task
from tutelage.evaluation.sandbox.pool import Worker
found = {}
outside = pathlib.Path(tempfile.mkdtemp(), "answers.jsonl")
outside.write_text(hostile.SECRET)
for backend in BACKENDS:
    try:
        worker = Worker(backend)
    except SandboxError as error:
        found[backend] = str(error)
        continue
    honest = worker.run(Task("def f(x): return x + 1", "assert f(3) == 4", "f"), Limits())
    found[backend] = [] if honest.passed else [honest.why]
    for program in hostile.ALL:
        limits = Limits(**{"cpu_seconds": 2, "memory": 1 << 28, **dict(program.limits)})
        outcome = worker.run(Task(program.text(outside, 9), hostile.CHECKS, "f"), limits)
        if outcome.passed or not re.match(program.why, outcome.why):
            found[backend].append((program.name, outcome.why))
    worker.close()
assert outside.read_text() == hostile.SECRET
print(json.dumps(found))
"""


def test_an_ordinary_user_has_the_same_sandbox():
    python = "/usr/bin/python3"
    if os.getuid() != 0:
        pytest.skip("this is an ordinary user: the other tests hold for one")
    known = [python, "-c", "import sys; raise SystemExit(sys.version_info < (3, 10))"]
    if not os.path.exists(python) or subprocess.run(known).returncode:
        pytest.skip("there is no Python that everybody can read")
    folder = Path(tempfile.mkdtemp(prefix="tutelage-user-"))
    try:
        shutil.copytree(Path(tutelage.__file__).parent, folder / "tutelage")
        for path in Path(__file__).parent.glob("hostile*.py"):
            shutil.copy(path, folder)
        os.chmod(folder, 0o755)
        done = subprocess.run(
            [python, "-c", SCRIPT],
            env={"PYTHONPATH": str(folder), "PATH": os.environ["PATH"]},
            cwd="/",
            user=65533,
            group=65533,
            extra_groups=[],
            capture_output=True,
            text=True,
        )
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert [] in found.values(), "one of them works at least"
    assert [left for left in found.values() if isinstance(left, list) and left] == []
