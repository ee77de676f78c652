"""Fixtures for all tests. Tiny models live in conftest_models, so that tests can import them."""

import gc
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from tqdm import tqdm

for folder in (Path(__file__).parent, Path(__file__).parent / "e2e"):
    sys.path.insert(0, str(folder))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


# No test reads a time: a busy machine is no fault.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def own_lock_of_bars():
    """Give progress bars a lock of this process alone.

    Theirs is shared with all children: one that is killed while it draws would hold it for ever,
    and whoever draws next would wait. After a fork nobody holds it, whoever did before.
    """
    tqdm.set_lock(threading.RLock())


own_lock_of_bars()
os.register_at_fork(after_in_child=own_lock_of_bars)

# No test cuts the power, and waiting for the disk takes as long as some runs.
os.fsync = os.fstat


def pytest_collection_modifyitems(items):
    """What is slow may take hours."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(4 * 3600))


@pytest.fixture(autouse=True, scope="module")
def garbage_found_fast():
    """Trainers collect garbage, and would look through all that imports and other tests made."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def empty_folder(tmp_path_factory):
    """Where tests run, so that no default path leads into the repository."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder := tmp_path_factory.mktemp("here"))
        yield folder


@pytest.fixture(autouse=True)
def nothing_left_behind(empty_folder):
    """A test that writes to default places goes to a folder of its own first."""
    yield
    left = list(empty_folder.iterdir())
    for path in left:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    names = ", ".join(path.name for path in left)
    assert not left, (
        f"written into the current folder: {names}. Pass `output`, or chdir to tmp_path"
    )


@pytest.fixture
def student():
    from conftest_models import tiny_model

    return tiny_model(seed=1)


@pytest.fixture
def teacher():
    from conftest_models import tiny_model

    return tiny_model(seed=2, hidden=24, layers=3)


@pytest.fixture
def rows():
    from conftest_models import random_rows

    return random_rows()
