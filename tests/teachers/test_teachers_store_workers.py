"""Several workers at one store, of whom one may be lost; several folders that are one store."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from conftest_models import random_rows, tiny_model
from conftest_teachers import spec_of
from tutelage.data.collate import collate
from tutelage.errors import StoreError
from tutelage.teachers import (
    LiveTeacher,
    StoredTeacher,
    TeacherStore,
    begin_store,
    check_folders,
    fill_store,
    store_need,
)
from tutelage.teachers.store.claims import filling
from tutelage.teachers.store.shards import whole_shards

SMALL = {"batch_tokens": 24}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr("tutelage.teachers.store.write.SMALLEST_SHARD", 1)
    monkeypatch.setattr("tutelage.teachers.store.write.SHARDS_WANTED", 5)


def content(folder):
    files = (p for p in folder.iterdir() if p.is_file() and p.name != "manifest.json")
    return {p.name: p.read_bytes() for p in files}


def until(condition, seconds=200.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this never happened"
        time.sleep(0.05)


@pytest.mark.slow
def test_of_a_lost_worker_the_other_one_makes_the_open_shard(make_store, teacher, rows, tmp_path):
    whole = make_store(teacher, rows, **SMALL)
    shards = len(whole_shards(whole.folder))
    folder, at_work = tmp_path / "shared", tmp_path / "shared.at-work"
    begin_store(folder, spec_of(), teacher)
    script = [sys.executable, str(Path(__file__).with_name("filling.py")), str(folder)]
    paths = {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    other = subprocess.Popen(script, env={**os.environ, **paths})
    try:
        # All but the shard that the slow one is at, for which the other one waits.
        until(lambda: len(whole_shards(folder)) == shards - 1)
        time.sleep(0.5)
        assert other.poll() is None and len(whole_shards(folder)) == shards - 1
        os.kill(int(at_work.read_text()), signal.SIGKILL)
        assert other.wait(100) == 0
    finally:
        other.kill()
        if at_work.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(at_work.read_text()), signal.SIGKILL)
        other.wait()
    assert content(folder) == content(whole.folder)
    TeacherStore(folder, spec_of())


def test_who_has_other_examples_waits(tmp_path):
    said, ends = [], threading.Event()

    def fills():
        with filling(tmp_path, "other rows", said.append):
            ends.set()

    with filling(tmp_path, "some rows"), filling(tmp_path, "some rows", said.append):
        thread = threading.Thread(target=fills)
        thread.start()
        until(lambda: said)
        assert not ends.wait(0.3)
    thread.join(60)
    assert ends.is_set() and len(said) == 1 and "with other examples" in said[0]


@pytest.fixture
def folders(teacher, rows, tmp_path):
    """Two parts of one store, as two machines make them that share no folder."""
    found = [tmp_path / "one", tmp_path / "two"]
    for number, folder in enumerate(found):
        begin_store(folder, spec_of(), teacher)
        fill_store(folder, spec_of(), teacher, rows, part=(number, 2), **SMALL)
    return found


def test_several_folders_are_one_store(make_store, folders, teacher, rows):
    whole = make_store(teacher, rows, **SMALL)
    store = TeacherStore(folders, spec_of())
    assert all(0 < TeacherStore(one).examples < len(rows) for one in folders)
    assert store.examples == len(rows) and store.folders == tuple(folders)
    assert content(folders[0]).keys() | content(folders[1]).keys() == content(whole.folder).keys()
    ids, batch = rows["id"][:9], collate(list(rows.select(range(9))), 0)
    found = StoredTeacher(store, rows).encode(ids, *batch.values())
    assert torch.equal(found, StoredTeacher(whole, rows).encode(ids, *batch.values()))
    torch.testing.assert_close(found, LiveTeacher(teacher, 32).encode(ids, *batch.values()))
    assert store.bytes_on_disk() == sum(TeacherStore(one).bytes_on_disk() for one in folders)


def test_what_no_folder_has_goes_to_the_first(folders, teacher, rows):
    more = random_rows(40)  # the same, and further ones
    before = content(folders[1])
    need = store_need(folders, spec_of(), 24, more)
    assert (need.examples, need.stored_examples) == (16, 24)
    fill_store(folders, spec_of(), teacher, more, **SMALL)
    assert content(folders[1]) == before
    assert store_need(folders, spec_of(), 24, more).examples == 0
    assert TeacherStore(folders[0]).examples + TeacherStore(folders[1]).examples == 40
    # What is in both is taken from the first.
    both = TeacherStore([folders[0], *folders])
    assert both.examples == 40 and set(both.location.shard) < set(range(len(both._paths)))
    assert both.location.shard.max() < len(both._paths)


def test_a_first_folder_need_not_be_there_where_others_have_all(folders, rows, tmp_path):
    new = tmp_path / "new"
    assert store_need([new, *folders], spec_of(), 24, rows).examples == 0
    for make in (lambda: None, new.mkdir):
        make()
        store = TeacherStore([new, *folders], spec_of())
        assert store.examples == len(rows) and store.folders == tuple(folders)
    (new / "notes.txt").write_text("of somebody")
    with pytest.raises(StoreError, match="is no teacher store"):
        TeacherStore([new, *folders], spec_of())


def test_folders_of_different_teachers_are_refused(folders, rows, tmp_path):
    with pytest.raises(StoreError, match=r"'.*none' is no teacher store"):
        check_folders([folders[0], tmp_path / "none"], spec_of())
    check_folders([tmp_path / "none", folders[0]], spec_of())
    other = tiny_model(seed=9, hidden=24, layers=3)
    spec = spec_of(teacher={"name": "other"})
    begin_store(tmp_path / "other", spec, other)
    fill_store(tmp_path / "other", spec, other, rows)
    with pytest.raises(StoreError, match="other' was made from another teacher"):
        check_folders([folders[0], tmp_path / "other"], spec_of())
    with pytest.raises(StoreError, match=r"other' was made from another teacher than .*one'"):
        TeacherStore([folders[0], tmp_path / "other"])
    begin_store(tmp_path / "head", spec_of(), other)
    with pytest.raises(StoreError, match=r"head' has another output head than .*one'"):
        TeacherStore([folders[0], tmp_path / "head"], spec_of())


def test_verified_shards_are_not_read_again_and_changed_ones_are(folders, monkeypatch):
    read = []
    from tutelage.teachers.store import shards

    crc = shards.file_crc32
    monkeypatch.setattr(shards, "file_crc32", lambda path: read.append(path) or crc(path))
    store = TeacherStore(folders)
    assert len(read) == len(store.stamps) == len(store._paths)
    read.clear()
    TeacherStore(folders, verified=store.stamps)
    assert not read
    path = store._paths[2]
    damaged = bytearray(path.read_bytes())
    damaged[-3] ^= 8
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="changed or damaged"):
        TeacherStore(folders, verified=store.stamps)
    assert read == [path]
