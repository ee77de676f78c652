"""Fixtures for all tests. Tiny models live in conftest_models, so that tests can import them."""

import os
import sys
from pathlib import Path

import pytest

for folder in (Path(__file__).parent, Path(__file__).parent / "e2e"):
    sys.path.insert(0, str(folder))
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


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
