"""Run folders that a report reads: made by the pipeline itself, once for all tests and processes.

Nothing here is made up: a fixture that only looks like what a run writes hides a field that the
report takes for another one. A test that needs something special changes a copy.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from conftest_pictures import leave_out_pictures

TITLE = "Sums of up to five steps <script>alert(1)</script>"
SUMS = {
    "extends": "embedded_cpd",
    "name": "sums",
    "title": TITLE,
    "description": "A small student learns chained sums; a <b>bold</b> & brave claim.",
    "data": {"kind": "arithmetic", "train": 120, "validation": 20, "test": 40, "label_noise": 0.4},
    "curriculum": {"stages": 4, "total_steps": 12},
    "training": {
        "learning_rate": 5e-4,
        "batch_size": 16,
        "micro_batch_size": 16,
        "log_every": 3,
        "checkpoint_every": 5,
        "num_threads": 1,
    },
    "selection": {"metric": "exact_match", "every": 4},
    "evaluation": {"metrics": {"exact_match": {"after": "#"}, "rouge_l": {}}, "max_new_tokens": 40},
    "controls": {
        "sft": {"extends": "sft", "curriculum": {"stages": 4}},
        "kld": {"extends": "kld", "curriculum": {"stages": 4}},
    },
}
LADDER = {
    **SUMS,
    "extends": "cpd_ladder",
    "name": "ladder",
    "student": {"model": "embedded:arithmetic-student"},
    "teachers": [
        {"name": "weak", "model": "embedded:arithmetic-weak"},
        {"name": "strong", "model": "embedded:arithmetic-strong"},
    ],
    "data": {"kind": "arithmetic", "train": 40, "validation": 0, "test": 20},
    "curriculum": {"stages": 2, "total_steps": 4},
    "selection": {"metric": None},
    "evaluation": {"metrics": {"exact_match": {"after": "#"}}, "max_new_tokens": 24},
    "controls": {},
}


def _made(tmp_path_factory: pytest.TempPathFactory, recipe: dict) -> Path:
    """The folder of a run that is carried out by whoever needs it first."""
    from tutelage.pipeline import run

    base = tmp_path_factory.getbasetemp()
    if base.name.startswith("popen-gw"):  # below a folder that all processes of xdist share
        base = base.parent
    folder = base / f"real-{recipe['name']}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "report.html").is_file():
            with pytest.MonkeyPatch.context() as patch:
                leave_out_pictures(patch)  # tests write reports of their own
                run({**recipe, "output": str(base / "runs")}, run_dir=folder)
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three arms; to read from."""
    return _made(tmp_path_factory, SUMS)


@pytest.fixture(scope="session")
def new_ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with two teachers; to read from."""
    return _made(tmp_path_factory, LADDER)


@pytest.fixture(scope="session")
def new_run(run_folder: Path) -> Callable[[Path], Path]:
    """Copies the run of three arms without its manifests, for tests that change it."""

    def copy(folder: Path) -> Path:
        return shutil.copytree(run_folder, folder, ignore=shutil.ignore_patterns("manifest.json"))

    return copy
