"""A model is known by every byte of it, however large it is and wherever it was copied from."""

import json
import os
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from tutelage import hashes
from tutelage.hashes import content_digests, content_sha256
from tutelage.pipeline.context.identity import data_identity, model_identity


@pytest.fixture(autouse=True)
def memory(monkeypatch, tmp_path):
    """An empty memory of hashes that also remembers small files, at once."""
    monkeypatch.setenv("TUTELAGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "_SMALL", 1)
    monkeypatch.setattr(hashes, "_SETTLED_SECONDS", 0.0)
    return tmp_path / "cache" / "hashes.json"


@pytest.fixture
def read(monkeypatch):
    """Names of the files whose content is really read."""
    seen = []
    real = hashes._sha256
    monkeypatch.setattr(hashes, "_sha256", lambda p, done: seen.append(p.name) or real(p, done))
    return seen


def test_one_layer_set_to_zero_between_the_samples_is_another_model(saved_llama):
    """The model is large enough that its start, middle and end say nothing about that layer."""
    weights = load_file(saved_llama / "model.safetensors")
    weights = {"a.pad": torch.ones(600_000), **weights, "z.pad": torch.ones(600_000)}
    save_file(weights, saved_llama / "model.safetensors")
    before = model_identity(str(saved_llama))
    for name in weights:
        if ".layers.1." in name:
            weights[name] = torch.zeros_like(weights[name])
    save_file(weights, saved_llama / "model.safetensors")
    assert model_identity(str(saved_llama)) != before


def _flip(file, at):
    with file.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))


def test_a_rewrite_that_keeps_size_and_time_is_seen(tmp_path, read):
    file = tmp_path / "weights"
    file.write_bytes(os.urandom(1000))
    status = file.stat()
    first = content_sha256(file)
    assert content_sha256(file) == first and read == ["weights"]
    time.sleep(0.02)
    _flip(file, 500)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert content_sha256(file) != first


def test_a_copy_that_keeps_its_time_takes_no_memory_over(tmp_path):
    """As with ``cp -p``: the place, size and time are those of the file that was remembered."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(bytes(1000))
    first = content_sha256(old)
    shutil.copy2(old, new)
    _flip(new, 500)
    os.utime(new, ns=(old.stat().st_atime_ns, old.stat().st_mtime_ns))
    new.replace(old)
    assert content_sha256(old) != first


def test_a_file_changed_a_moment_ago_is_not_remembered(tmp_path, monkeypatch, memory):
    monkeypatch.setattr(hashes, "_SETTLED_SECONDS", 3600.0)
    file = tmp_path / "weights"
    file.write_bytes(b"new")
    content_sha256(file)
    assert not memory.exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"files": {}, "check": "no"}', "digit"])
def test_a_damaged_memory_is_not_believed(tmp_path, memory, read, damage):
    file = tmp_path / "weights"
    file.write_bytes(b"some bytes")
    right = content_sha256(file)
    if damage == "digit":
        other = ("0" if right[0] != "0" else "1") + right[1:]
        damage = memory.read_text().replace(right, other)
    memory.write_text(damage)
    assert content_sha256(file) == right
    assert read == ["weights"] * 2


def test_a_memory_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    file = tmp_path / "weights"
    file.write_bytes(b"some bytes")
    assert content_sha256(file) == content_sha256(file)


def test_several_files_with_progress(tmp_path):
    files = [tmp_path / str(number) for number in range(3)]
    for number, file in enumerate(files):
        file.write_bytes(bytes(100 * (number + 1)))
    seen = []
    digests = content_digests(files, lambda done, total: seen.append((done, total)))
    assert len(set(digests.values())) == 3
    assert seen[-1] == (600, 600)


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "merges.txt", "modeling_own.py", "tokenizer.json"]
)
def test_every_file_that_decides_counts(saved_llama, name):
    before = model_identity(str(saved_llama))
    (saved_llama / name).write_text("another")
    assert model_identity(str(saved_llama)) != before


def test_what_says_nothing_about_the_model_does_not_count(saved_llama):
    before = model_identity(str(saved_llama))
    for name in ("README.md", "manifest.json", "selected.json", "metrics.jsonl", "seconds.json"):
        (saved_llama / name).write_text("{}")
    assert model_identity(str(saved_llama)) == before


def test_how_a_model_is_read_counts(saved_llama):
    name = str(saved_llama)
    ways = [{}, {"dtype": "bfloat16"}, {"trust_remote_code": True}]
    assert len({json.dumps(model_identity(name, **way), sort_keys=True) for way in ways}) == 3


def test_models_are_known_wherever_their_name_leads(saved_llama, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert model_identity("~/llama") == model_identity(str(saved_llama))
    assert "model.safetensors" in model_identity("embedded:arithmetic-student")["files"]


def test_data_of_a_folder_are_known_by_content(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    file = folder / "train.jsonl"
    file.write_text("1234")
    before = data_identity(str(folder)), data_identity(str(file))
    time.sleep(0.02)
    file.write_text("1235")
    after = data_identity(str(folder)), data_identity(str(file))
    assert before[0] != after[0] and before[1] != after[1]


def test_data_below_the_home_folder_are_known_by_content(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "train.jsonl").write_text("1234")
    assert data_identity("~/train.jsonl") == data_identity(str(tmp_path / "train.jsonl"))
