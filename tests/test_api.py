"""What a user finds in ``import tutelage``: the names, threads that wait quietly, progress."""

import io
import subprocess
import sys

import pytest
from rich.console import Console

import tutelage
from tutelage.pipeline.context.display import Display


def in_a_new_process(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_public_names_are_listed_and_there():
    listed = dir(tutelage)
    for name in tutelage.__all__:
        assert name in listed and callable(getattr(tutelage, name))
    assert [name for name in listed if not name.startswith("_")] == sorted(tutelage.__all__)


@pytest.mark.parametrize(
    ("before", "environment", "policy", "late"),
    [
        ("", {}, "PASSIVE", "False"),
        ("", {"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE", "False"),
        ("sys.modules['torch'] = sys;", {}, "PASSIVE", "True"),
    ],
)
def test_threads_do_not_spin_from_python_either(before, environment, policy, late):
    code = f"import os, sys; {before} import tutelage;" + (
        "print(os.environ['OMP_WAIT_POLICY'], tutelage.TORCH_CAME_FIRST)"
    )
    paths = {"PYTHONPATH": ":".join(filter(None, sys.path))}
    assert in_a_new_process(code, **paths, **environment) == f"{policy} {late}"


@pytest.mark.parametrize(
    ("terminal", "quiet", "shown"),
    [(True, None, True), (False, None, False), (False, False, True), (True, True, False)],
)
def test_progress_is_shown_where_somebody_looks(terminal, quiet, shown):
    out = io.StringIO()
    display = Display(quiet, Console(file=out, force_terminal=terminal))
    display.note("a line")
    assert ("a line" in out.getvalue()) == shown
