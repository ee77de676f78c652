"""Stores at an address: brought, sent, compared; and what goes wrong on the way."""

import json
from pathlib import Path

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from conftest_models import random_rows, tiny_model
from conftest_teachers import spec_of
from elsewhere import Elsewhere, change, content
from tutelage.data.collate import collate
from tutelage.errors import RunFolderError, StoreError
from tutelage.teachers import (
    Mirror,
    StoredTeacher,
    TeacherStore,
    begin_store,
    fill_store,
    store_need,
)
from tutelage.teachers.store.shards import whole_shards

ADDRESS = "elsewhere://bucket"
SMALL = {"batch_tokens": 24}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    Elsewhere.empty()
    MemoryFileSystem.store.clear()
    monkeypatch.setattr("tutelage.teachers.store.write.SMALLEST_SHARD", 1)
    monkeypatch.setattr("tutelage.teachers.store.write.SHARDS_WANTED", 5)


@pytest.fixture
def host(tmp_path, teacher, rows):
    """Another machine, which fills the store as far as it is asked to."""

    def made(name, part=None, address=ADDRESS, sends=True):
        mirror = Mirror(address, tmp_path / name)
        mirror.bring(spec_of())
        if part is not None:
            begin_store(mirror.folder, spec_of(), teacher)
            fill_store(mirror.folder, spec_of(), teacher, rows, part=part, **SMALL)
            if sends:
                mirror.send()
        return mirror

    return made


def missing(mirror, rows):
    return store_need(mirror.folder, spec_of(), 24, rows).examples


def files(folder):
    return {p.name: p.read_bytes() for p in Path(folder).iterdir() if p.is_file()}


def pairs_in_order(sent):
    """Of each shard the checksum comes after what it is of."""
    shards = [name for name in sent if name.startswith("shard-")]
    return all(
        a.removesuffix(".safetensors") == b.removesuffix(".json")
        for a, b in zip(shards[::2], shards[1::2], strict=True)
    )


@pytest.mark.parametrize("address", [ADDRESS, "memory://a bucket/below"])
def test_two_hosts_fill_one_address_and_a_third_reads_it(
    host, rows, teacher, make_store, address, tmp_path
):
    first, second = (host(name, (n, 2), address) for n, name in enumerate(("one", "two")))
    assert missing(first, rows) > 0 == missing(second, rows)  # which began when the first had ended
    third = host("three", address=address + "/")
    assert missing(third, rows) == 0
    assert files(third.folder) == files(second.folder)
    whole = make_store(teacher, rows, **SMALL)
    assert files(third.folder).keys() == files(whole.folder).keys()
    store = TeacherStore(third.folder, spec_of())
    ids, batch = rows["id"][:9], collate(list(rows.select(range(9))), 0)
    found = StoredTeacher(store, rows).encode(ids, *batch.values())
    assert torch.equal(found, StoredTeacher(whole, rows).encode(ids, *batch.values()))


def test_what_is_sent_counts_last_and_is_sent_once(host, rows):
    mirror = host("one", (0, 1))
    assert Elsewhere.sent[:2] == ["head.safetensors", "manifest.json"]
    assert pairs_in_order(Elsewhere.sent)
    assert content() == files(mirror.folder)
    Elsewhere.sent.clear()
    mirror.send()
    mirror.bring(spec_of())
    assert not Elsewhere.sent and Elsewhere.asked["get"] == 0
    # A reader of a store in which nothing is missing never writes: it may have no right to.
    Elsewhere.failures = {"put": (0, PermissionError("read only"))}
    reader = host("two")
    reader.send()
    assert missing(reader, rows) == 0


def test_shards_go_up_as_they_are_made(host, teacher, rows):
    mirror, told = host("one"), []

    def made(name):
        mirror.send([name])
        told.append((name, {f.stem for f in whole_shards(mirror.folder)}, set(content())))

    begin_store(mirror.folder, spec_of(), teacher)
    mirror.send(())
    assert content().keys() == {"head.safetensors", "manifest.json"}
    fill_store(mirror.folder, spec_of(), teacher, rows, made=made, **SMALL)
    assert len(told) == len(whole_shards(mirror.folder)) > 3
    for name, here, there in told:
        assert name in here and {f"{name}.json", f"{name}.safetensors"} <= there
    assert content() == files(mirror.folder)


def test_a_shard_without_its_checksum_does_not_count_and_is_sent_again(host, rows):
    first = host("one", (0, 1))
    shard = whole_shards(first.folder)[1].stem
    change(f"{shard}.json", None)
    change(f"{shard}.safetensors", b"half of it")
    second = host("two")
    assert 0 < missing(second, rows) < len(rows)
    assert not (second.folder / f"{shard}.safetensors").exists()
    Elsewhere.sent.clear()
    first.send()
    assert Elsewhere.sent == [f"{shard}.safetensors", f"{shard}.json"]
    # What was cut off within the checksum is no proof either, and is said.
    change(f"{shard}.json", b'{"crc32": 1')
    with pytest.raises(StoreError, match="they do not match"):
        second.bring(spec_of())


@pytest.mark.parametrize("name", ["shard", "head"])
def test_a_changed_byte_is_found(host, rows, name):
    first = host("one", (0, 1))
    if name == "shard":
        name = whole_shards(first.folder)[2].stem
    damaged = bytearray(content()[f"{name}.safetensors"])
    damaged[-3] ^= 8
    change(f"{name}.safetensors", bytes(damaged))
    with pytest.raises(StoreError, match=f"{ADDRESS}/{name}.safetensors' was changed or damaged"):
        host("two")
    folder = first.folder.with_name("two")
    assert not any(p.name.startswith((name, ".tmp-")) for p in folder.iterdir())
    # As the message says.
    for file in (f"{name}.safetensors", "manifest.json" if name == "head" else f"{name}.json"):
        change(file, None)
    first.send()
    assert missing(host("two"), rows) == 0


def test_other_stores_are_refused(host, tmp_path, rows):
    first = host("one", (0, 2))
    with pytest.raises(StoreError, match=r"'elsewhere://bucket' was made from another teacher"):
        Mirror(ADDRESS, tmp_path / "two").bring(spec_of(teacher={"name": "other"}))
    assert not (tmp_path / "two").exists()
    # Made anew there meanwhile, from a teacher with other weights.
    Elsewhere.empty()
    other = Mirror(ADDRESS, tmp_path / "other")
    begin_store(other.folder, spec_of(), tiny_model(seed=9, hidden=24, layers=3))
    other.send()
    before = content()
    for again in (first.send, lambda: first.bring(spec_of())):
        with pytest.raises(StoreError, match=r"has another output head than .*one of them was"):
            again()
    assert content() == before
    change("manifest.json", b"{")
    with pytest.raises(StoreError, match=r"manifest of the teacher store 'elsewhere.* be read"):
        host("three")
    Elsewhere.empty()
    Elsewhere().pipe_file("/bucket/notes.txt", b"mine")
    with pytest.raises(StoreError, match=r"not empty and is no teacher store \(it has 'notes.txt'"):
        host("three")
    with pytest.raises(StoreError, match="'elsewhere://none' is no teacher store"):
        Mirror("elsewhere://none", tmp_path / "none").bring(spec_of(), must=True)


@pytest.mark.parametrize(
    ("what", "number", "error", "words"),
    [
        (
            "ls",
            1,
            OSError("no route to host"),
            r"listed \(no route to host\)\. Look at",
        ),
        ("ls", 1, PermissionError("Forbidden"), r"listed \(Forbidden\)\. The keys"),
        ("read", 2, TimeoutError(), r"read \(TimeoutError\)"),
        ("get", 3, ConnectionResetError("reset by peer"), r"read \(reset by peer\)"),
    ],
)
def test_a_network_that_fails_while_bringing(host, rows, what, number, error, words):
    host("one", (0, 1))
    Elsewhere.asked.clear()
    Elsewhere.failures = {what: (number, error)}
    with pytest.raises(StoreError, match=words) as said:
        host("two")
    assert "goes on from it" in str(said.value)
    Elsewhere.failures = {}
    assert missing(host("two"), rows) == 0


def test_a_network_that_fails_while_sending_loses_nothing(host, rows):
    mirror = host("one", (0, 1), sends=False)
    before = files(mirror.folder)
    for number, error in ((1, FileNotFoundError("NoSuchBucket")), (5, OSError("broken pipe"))):
        Elsewhere.asked.clear()
        Elsewhere.failures = {"put": (number, error)}
        with pytest.raises(StoreError, match="cannot be written") as said:
            mirror.send()
        assert ("Make the bucket" in str(said.value)) == (number == 1)
        assert files(mirror.folder) == before
    assert len(content()) == 4  # head, manifest, and one whole shard
    Elsewhere.failures = {}
    other = host("two")
    assert 0 < missing(other, rows) < len(rows)
    mirror.send()
    assert content() == before and pairs_in_order(Elsewhere.sent)


def test_without_room_nothing_is_brought(host, monkeypatch, tmp_path):
    host("one", (0, 1))
    monkeypatch.setattr("tutelage.teachers.store.mirror.free_bytes", lambda _: 1000)
    Elsewhere.asked.clear()
    with pytest.raises(StoreError, match=r"lacks takes 0 MB, and 0 MB are free here"):
        host("two")
    assert not (tmp_path / "two").exists() and Elsewhere.asked["get"] == 0
    monkeypatch.undo()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Elsewhere, "get_file", full)
    with pytest.raises(RunFolderError, match="The disk is full"):
        host("two")
    assert not list((tmp_path / "two").glob("*"))


def test_how_far_it_is_is_told(host, tmp_path, monkeypatch):
    monkeypatch.setattr("tutelage.teachers.store.mirror._MB", 1)
    told = {}

    class Task:
        def __init__(self, title):
            self.said = told.setdefault(title, [])

        def __enter__(self):
            return lambda done, total: self.said.append((done, total))

        def __exit__(self, *_):
            pass

    sender = host("one", (0, 1), sends=False)
    sender.send(task=Task)
    Mirror(ADDRESS, tmp_path / "two").bring(spec_of(), task=Task)
    sent, brought = told.values()
    size = sum(len(file) for file in content().values())
    assert sent[-1] == (size, size) and len(sent) > 5
    records = sum(len(f) for n, f in content().items() if n.endswith(".json"))
    assert brought[-1] == (size - records,) * 2
    for said in (sent, brought):
        assert [done for done, _ in said] == sorted(done for done, _ in said)


def test_more_examples_are_added(host, teacher, rows):
    host("one", (0, 1))
    second, more = host("two"), random_rows(40)
    assert missing(second, more) == 16
    fill_store(second.folder, spec_of(), teacher, more, **SMALL)
    second.send()
    first = host("one")
    assert missing(first, more) == 0
    assert json.loads(content()["manifest.json"])["kind"] == "hidden"
