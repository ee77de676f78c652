"""Fixtures of whole runs."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def no_pictures():
    """Runs draw nothing but where a test asks for ``pictures``."""
    from conftest_pictures import leave_out_pictures

    with pytest.MonkeyPatch.context() as patch:
        leave_out_pictures(patch)
        yield


@pytest.fixture
def pictures(monkeypatch):
    """This run draws."""
    from conftest_pictures import draw_pictures

    draw_pictures(monkeypatch)
