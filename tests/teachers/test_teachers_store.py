"""The teacher store: exact, complete, resumable, and refused when it is not what it should be."""

import errno
import shutil
from collections import namedtuple
from unittest.mock import Mock

import datasets
import numpy as np
import pytest
import torch

from conftest_models import VOCAB, random_rows, tiny_model
from conftest_teachers import architectures, spec_of, teacher_log_probs
from tutelage.data.collate import collate
from tutelage.divergences import DIVERGENCES
from tutelage.errors import ConfigError, RunFolderError, StoreError
from tutelage.models.head import response_hidden
from tutelage.targets import TARGETS
from tutelage.teachers import (
    LiveTeacher,
    StoredTeacher,
    TeacherStore,
    begin_store,
    check_space,
    fill_store,
    store_need,
    stored_losses,
)
from tutelage.teachers.store.need import token_bytes
from tutelage.training.loss import DistillLoss, StepValues

SMALL = {"batch_tokens": 24}
"""Several batches, and with the patch below several shards, from a few rows."""


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr("tutelage.teachers.store.write.SMALLEST_SHARD", 1)
    monkeypatch.setattr("tutelage.teachers.store.write.SHARDS_WANTED", 5)


def batch_of(rows, which):
    picked = [rows[i] for i in which]
    return [row["id"] for row in picked], collate(picked, 0)


def loss_and_gradients(student, signal, ids, batch, divergence, target, values):
    student.zero_grad()
    hidden_NH, targets_N = response_hidden(student, *batch.values())
    teacher_NH = signal.encode(ids, *batch.values())
    loss = DistillLoss(DIVERGENCES[divergence].function, TARGETS[target].function, VOCAB)
    total = loss(student, hidden_NH, targets_N, values, signal, teacher_NH).total
    total.backward()
    return total.item(), {n: p.grad.clone() for n, p in student.named_parameters()}


@pytest.mark.parametrize("name", ["gpt2", "llama", "qwen2", "gemma2"])
@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl", "jsd", "alpha_beta"])
def test_stored_states_give_the_loss_and_the_gradient_of_the_live_teacher(
    name, divergence, make_store, student, rows
):
    teacher = architectures()[name]
    store = make_store(teacher, rows, **SMALL)
    ids, batch = batch_of(rows, [7, 2, 11, 2])
    for share, tau in ((0.0, 1.0), (0.4, 2.0)):
        values = StepValues(share, tau, 0.3)
        arguments = (ids, batch, divergence, "probability_mix", values)
        live = loss_and_gradients(student, LiveTeacher(teacher, VOCAB), *arguments)
        stored = loss_and_gradients(student, StoredTeacher(store, rows), *arguments)
        assert stored[0] == pytest.approx(live[0], rel=2e-6)
        for key, gradient in live[1].items():
            torch.testing.assert_close(stored[1][key], gradient, rtol=2e-5, atol=2e-6)


def test_states_are_stored_in_the_type_that_the_head_reads(make_store, rows, tmp_path):
    teacher = tiny_model(seed=2, hidden=24).bfloat16()
    spec = spec_of(dtype="bfloat16")
    begin_store(tmp_path / "half", spec, teacher)
    fill_store(tmp_path / "half", spec, teacher, rows)
    store = TeacherStore(tmp_path / "half", spec)
    ids, batch = batch_of(rows, range(8))
    hidden = StoredTeacher(store, rows).encode(ids, *batch.values())
    assert hidden.dtype == torch.bfloat16
    live = LiveTeacher(teacher, VOCAB)
    expected = teacher_log_probs(live, live.encode(ids, *batch.values()), 1.5)
    found = teacher_log_probs(StoredTeacher(store), hidden, 1.5)
    # Batches of other shapes round otherwise in 16 bits.
    torch.testing.assert_close(found, expected, rtol=0, atol=0.15)


def test_a_store_takes_two_bytes_a_hidden_unit_and_one_percent(make_store, tmp_path):
    teacher, rows = tiny_model(hidden=512, layers=1), random_rows(2000)
    spec = spec_of(dtype="bfloat16")
    begin_store(tmp_path / "s", spec, teacher)
    fill_store(tmp_path / "s", spec, teacher, rows)
    store = TeacherStore(tmp_path / "s", spec)
    head = (tmp_path / "s" / "head.safetensors").stat().st_size
    # Answers of four tokens are the worst case: 16 bytes an example for its key and length.
    assert (store.bytes_on_disk() - head) / store.tokens <= 2 * 512 * 1.01
    need = store_need(tmp_path / "other", spec, 512, rows)
    assert need.bytes == pytest.approx(store.bytes_on_disk(), rel=0.01)
    assert need.response_tokens == store.tokens and need.examples == 2000


def test_signals_are_found_by_id_and_tokens_never_by_position(make_store, teacher, rows):
    order = np.random.default_rng(0).permutation(len(rows))
    store = make_store(teacher, rows.select(order), **SMALL)
    ids, batch = batch_of(rows, [3, 14, 15])
    expected = LiveTeacher(teacher, VOCAB).encode(ids, *batch.values())
    for signal in (StoredTeacher(store, rows), StoredTeacher(store)):
        torch.testing.assert_close(signal.encode(ids, *batch.values()), expected)
    changed = rows.map(lambda row: {"input_ids": [4, *row["input_ids"][1:]]})
    with pytest.raises(StoreError, match="with the tokens that it has now"):
        StoredTeacher(store, changed)


def test_two_answers_to_one_prompt_are_told_apart(make_store, teacher):
    row = random_rows(1)[0]
    other = {**row, "input_ids": [*row["input_ids"], 9], "labels": [*row["labels"], 9]}
    rows = datasets.Dataset.from_list([row, other])
    signal = StoredTeacher(make_store(teacher, rows), rows)
    for one in (row, other):
        batch = collate([one, None], 0)
        live = LiveTeacher(teacher, VOCAB).encode([one["id"]], *batch.values())
        torch.testing.assert_close(signal.encode([one["id"]], *batch.values()), live)


def test_the_teachers_loss_comes_from_the_store(make_store, teacher, rows):
    from tutelage.difficulty import example_losses

    expected = example_losses(teacher, rows, vocab_size=VOCAB)
    for kind in ("hidden", "topk"):
        store = make_store(teacher, rows, kind=kind, name=kind)
        sums, tokens = stored_losses(store, rows, tile_tokens=16)
        np.testing.assert_allclose(sums, expected.loss_sums, rtol=1e-5)
        np.testing.assert_array_equal(tokens, expected.num_tokens)


def content(folder):
    files = (p for p in folder.iterdir() if p.is_file() and p.name != "manifest.json")
    return {p.name: p.read_bytes() for p in files}


def test_an_interrupted_pass_ends_like_an_unbroken_one(
    make_store, teacher, rows, tmp_path, small_shards
):
    whole = make_store(teacher, rows, **SMALL)
    assert len(list(whole.folder.glob("shard-*.safetensors"))) >= 4
    folder, spec = tmp_path / "broken", spec_of()
    begin_store(folder, spec, teacher)
    for fails_at in (60, 120, 10**9):
        computed = []

        def stop(done, total, limit=fails_at, computed=computed):
            computed.append(done)
            if done > limit:
                raise KeyboardInterrupt

        try:
            fill_store(folder, spec, teacher, rows, progress=stop, **SMALL)
        except KeyboardInterrupt:
            assert store_need(folder, spec, 24, rows).examples > 0
    assert computed[-1] < sum(map(len, rows["input_ids"])), "whole shards were computed again"
    assert content(folder) == content(whole.folder)
    # A shard without its checksum, as a kill between both leaves it, does not count.
    next(folder.glob("shard-*.json")).unlink()
    assert store_need(folder, spec, 24, rows).examples > 0
    fill_store(folder, spec, teacher, rows, **SMALL)
    assert content(folder) == content(whole.folder)


@pytest.mark.parametrize("locks", [True, False])
def test_processes_share_the_work(
    make_store, teacher, rows, tmp_path, small_shards, monkeypatch, locks
):
    if not locks:  # some network file systems have none
        refused = OSError(errno.ENOLCK, "No locks available")
        monkeypatch.setattr("fcntl.flock", Mock(side_effect=refused))
    whole = make_store(teacher, rows, **SMALL)
    folder, spec = tmp_path / "shared", spec_of()
    begin_store(folder, spec, teacher)
    for process in range(3):
        fill_store(folder, spec, teacher, rows, process=process, processes=3, **SMALL)
    assert content(folder) == content(whole.folder)


def test_a_store_grows_and_repeats_nothing(make_store, teacher, rows):
    store = make_store(teacher, rows.select(range(10)), **SMALL)
    need = store_need(store.folder, spec_of(), 24, rows)
    assert need.stored_examples == 10 and need.examples == len(rows) - 10
    again = make_store(teacher, rows, **SMALL)
    assert again.examples == len(rows) and again.tokens == store.tokens + need.response_tokens
    assert store_need(store.folder, spec_of(), 24, rows).examples == 0
    ids, batch = batch_of(rows, [1, 22])
    live = LiveTeacher(teacher, VOCAB).encode(ids, *batch.values())
    torch.testing.assert_close(StoredTeacher(again, rows).encode(ids, *batch.values()), live)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.99])
def test_a_flipped_byte_is_refused(make_store, teacher, rows, place):
    store = make_store(teacher, rows)
    path = next(store.folder.glob("shard-*.safetensors"))
    damaged = bytearray(path.read_bytes())
    damaged[int(place * len(damaged))] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"changed or damaged after it was written.*Delete it"):
        TeacherStore(store.folder)
    path.unlink()
    make_store(teacher, rows)


def test_a_damaged_head_is_refused(make_store, teacher, rows):
    store = make_store(teacher, rows)
    path = store.folder / "head.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StoreError, match=r"head.*missing, changed or damaged"):
        StoredTeacher(TeacherStore(store.folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"teacher": {"name": "another"}}, "made from another teacher"),
        ({"tokenizer": "u"}, "another tokenizer"),
        ({"vocab_size": VOCAB + 1}, "another vocabulary size.*32, not 33"),
        ({"dtype": "bfloat16"}, "another type of numbers"),
        ({"kind": "topk", "top_k": 3}, "another kind of signal"),
    ],
)
def test_another_store_is_refused(make_store, teacher, rows, change, words):
    store = make_store(teacher, rows)
    with pytest.raises(StoreError, match=words):
        TeacherStore(store.folder, spec_of(**change))
    with pytest.raises(StoreError, match=words):
        begin_store(store.folder, spec_of(**change), teacher)


def test_a_folder_with_other_things_is_refused(tmp_path, teacher):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(StoreError, match="not empty and is no teacher store"):
        begin_store(tmp_path, spec_of(), teacher)
    with pytest.raises(StoreError, match="no teacher store: it has no manifest"):
        TeacherStore(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        TeacherStore(tmp_path)


def test_too_small_a_disk_is_refused_before_the_pass(monkeypatch, tmp_path, rows):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 100))
    need = store_need(tmp_path / "not" / "there", spec_of(), 24, rows)
    with pytest.raises(StoreError, match=r"needs 0 MB of disk.*topk.*live"):
        check_space(tmp_path / "not" / "there", need)


def test_a_disk_that_fills_up_keeps_whole_shards(
    make_store, teacher, rows, tmp_path, monkeypatch, small_shards
):
    import os

    folder, spec = tmp_path / "full", spec_of()
    begin_store(folder, spec, teacher)
    replace, written = os.replace, []

    def full_after_three(source, target):
        written.append(target)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full_after_three)
    with pytest.raises(RunFolderError, match="disk is full"):
        fill_store(folder, spec, teacher, rows, **SMALL)
    monkeypatch.undo()
    assert TeacherStore(folder).examples > 0
    assert not list(folder.glob(".tmp-*"))


def test_width_of_a_token():
    assert token_bytes(spec_of(dtype="bfloat16"), 576) == 1152
    wide = spec_of("topk", vocab_size=151_936, top_k=64)
    assert token_bytes(wide, 576) == 16 + 128 + 128 + 16 + 4


@pytest.mark.parametrize("top_k", [0, 64, 10**6])
def test_as_many_tokens_as_there_are_cannot_be_kept(top_k):
    with pytest.raises(ConfigError, match=r"to be kept of a vocabulary of 64\..*signal: hidden"):
        spec_of("topk", vocab_size=64, top_k=top_k)
