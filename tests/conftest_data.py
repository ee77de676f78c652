"""Public data sets, for slow tests: where they are says the environment variable TUTELAGE_DATA."""

import os
from pathlib import Path

import pytest


def public_data(name):
    """The file ``name`` below the folder that TUTELAGE_DATA names; the test is skipped without."""
    folder = os.environ.get("TUTELAGE_DATA")
    path = Path(folder or ".", name)
    if not folder or not path.exists():
        pytest.skip(f"needs {name} in the folder that TUTELAGE_DATA names")
    return path
