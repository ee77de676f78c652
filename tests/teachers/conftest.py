"""Stores made from tiny teachers."""

import pytest

from conftest_teachers import spec_of
from tutelage.teachers import TeacherStore, begin_store, fill_store


@pytest.fixture
def make_store(tmp_path):
    def make(model, rows, kind="hidden", name="store", **options):
        folder, spec = tmp_path / name, spec_of(kind)
        begin_store(folder, spec, model)
        fill_store(folder, spec, model, rows, **options)
        return TeacherStore(folder, spec)

    return make
