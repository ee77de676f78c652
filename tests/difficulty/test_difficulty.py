"""Difficulty: measured losses against the model's own, profiles as values and as files."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest_models import VOCAB, random_rows, tiny_model
from tutelage.difficulty import (
    example_losses,
    load_profile,
    save_profile,
    summarize,
)
from tutelage.difficulty.measurements import ExampleLosses
from tutelage.difficulty.scores import student_loss
from tutelage.errors import ConfigError, DataError
from tutelage.types import DifficultyProfile


def test_losses_are_the_models_own():
    model, rows = tiny_model(seed=3), random_rows(9)
    measured = example_losses(model, rows, vocab_size=VOCAB)
    model.eval()
    for row, loss_sum, count in zip(rows, measured.loss_sums, measured.num_tokens, strict=True):
        with torch.no_grad():
            mean = model(
                input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])
            ).loss.item()
        assert count == sum(label != -100 for label in row["labels"])
        assert loss_sum / count == pytest.approx(mean, rel=1e-5)


def test_batches_change_nothing_and_the_mode_is_kept():
    model, rows = tiny_model(seed=3).train(), random_rows(9)
    done = []
    small = example_losses(
        model, rows, vocab_size=VOCAB, batch_tokens=13, progress=lambda *p: done.append(p)
    )
    large = example_losses(model, rows, vocab_size=VOCAB, batch_tokens=10_000)
    np.testing.assert_allclose(small.loss_sums, large.loss_sums, rtol=1e-5)
    assert model.training
    assert done[-1][0] == done[-1][1] == sum(len(row["input_ids"]) for row in rows)


def spied_shapes(model, rows, **options):
    """What ``example_losses`` measures, and the shapes of the batches that the model ran."""
    shapes = []
    hook = model.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: shapes.append(tuple(args[0].shape))
    )
    measured = example_losses(model, rows, vocab_size=VOCAB, entropies=True, **options)
    hook.remove()
    return measured, shapes


def test_rows_run_without_padding_where_the_model_can(monkeypatch):
    model, rows = tiny_model(seed=3), random_rows(9)
    before = model.config._attn_implementation
    packed, shapes = spied_shapes(model, rows, batch_tokens=20)
    assert model.config._attn_implementation == before
    # The first shapes are those of the trial.
    assert sum(tokens for number, tokens in shapes[2:]) == sum(
        len(row["input_ids"]) for row in rows
    )
    assert {number for number, _ in shapes[2:]} == {1}
    monkeypatch.setattr("tutelage.models.packing.can_pack_attention", lambda lm: False)
    padded, shapes = spied_shapes(model, rows, batch_tokens=20)
    assert max(number for number, _ in shapes) > 1
    np.testing.assert_allclose(packed.loss_sums, padded.loss_sums, rtol=1e-5)
    np.testing.assert_allclose(packed.entropy_sums, padded.entropy_sums, rtol=1e-5)
    assert packed.num_tokens.tolist() == padded.num_tokens.tolist()


def test_rows_that_outgrow_the_attention_window_are_padded_within_the_budget(monkeypatch):
    model, rows = tiny_model(seed=3), random_rows(9)
    monkeypatch.setattr("tutelage.models.packed_attention.CHECKED_WINDOW", 1)
    model.config.sliding_window = max(len(row["input_ids"]) for row in rows) - 1
    expected = example_losses(tiny_model(seed=3), rows, vocab_size=VOCAB)
    measured, shapes = spied_shapes(model, rows, batch_tokens=40)
    assert all(number == 1 or number * tokens <= 40 for number, tokens in shapes)
    assert max(number for number, _ in shapes) > 1
    np.testing.assert_allclose(measured.loss_sums, expected.loss_sums, rtol=1e-5)


def test_softmax_of_a_few_tokens_at_a_time_changes_nothing(monkeypatch):
    model, rows = tiny_model(seed=3), random_rows(9)
    expected = example_losses(model, rows, vocab_size=VOCAB, entropies=True)
    monkeypatch.setattr("tutelage.difficulty.measure.TILE_TOKENS", 7)
    monkeypatch.setattr("tutelage.difficulty.measure.CPU_SOFTMAX_TOKENS", 3)
    found = example_losses(model, rows, vocab_size=VOCAB, entropies=True)
    np.testing.assert_allclose(found.loss_sums, expected.loss_sums, rtol=1e-6)
    np.testing.assert_allclose(found.entropy_sums, expected.entropy_sums, rtol=1e-6)


def test_padding_of_the_vocabulary_does_not_count():
    rows = random_rows(5)
    padded = tiny_model(seed=3, vocab=VOCAB + 8)
    first = example_losses(padded, rows, vocab_size=VOCAB).loss_sums
    with torch.no_grad():
        padded.lm_head.weight[VOCAB:] += 30
    np.testing.assert_allclose(example_losses(padded, rows, vocab_size=VOCAB).loss_sums, first)


def test_mean_and_sum():
    losses = ExampleLosses(np.asarray([6.0, 2.0]), np.asarray([3, 1]))
    assert student_loss(losses).tolist() == [2.0, 2.0]
    assert student_loss(losses, reduce="sum").tolist() == [6.0, 2.0]
    with pytest.raises(ConfigError, match="Did you mean 'mean'"):
        student_loss(losses, reduce="meen")


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_the_running_mean_never_falls_and_ends_at_the_mean(scores):
    profile = DifficultyProfile(tuple(map(str, range(len(scores)))), np.asarray(scores))
    means = profile.running_mean
    assert (np.diff(means) >= 0).all()
    assert means[-1] == pytest.approx(np.mean(scores), rel=1e-9, abs=1e-6)
    assert means[0] == min(scores)
    assert sorted(profile.order.tolist()) == list(range(len(scores)))


@pytest.mark.parametrize(
    ("ids", "scores", "words"),
    [
        ((), [], "at least one"),
        (("a", "a"), [1, 2], "repeat"),
        (("a", "b"), [1, float("nan")], "'b' is nan"),
        (("a", "b"), [1], "2 ids"),
    ],
)
def test_profiles_that_make_no_sense_are_refused(ids, scores, words):
    with pytest.raises(DataError, match=words):
        DifficultyProfile(ids, np.asarray(scores, dtype=float))


def test_a_profile_is_a_value():
    profile = DifficultyProfile(("a", "b"), np.asarray([1.0, 2.0]))
    with pytest.raises(ValueError, match="read-only"):
        profile.scores[0] = 3.0


def test_files(tmp_path):
    profile = DifficultyProfile(("007", "b"), np.asarray([1.5, 0.5]), "student_loss")
    save_profile(tmp_path / "p.parquet", profile, num_tokens=[3, 4], groups=["x", ""])
    again = load_profile(tmp_path / "p.parquet")
    assert again.ids == profile.ids and again.measure == "student_loss"
    np.testing.assert_array_equal(again.scores, profile.scores)
    (tmp_path / "p.csv").write_text("id,score\n007,1.5\nb,0.5\n")
    assert load_profile(tmp_path / "p.csv").ids == ("007", "b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,difficulty\na,1\n", "no column 'score'"),
        ("id,score\na,1\na,2\n", "repeat"),
        ("id,score\na,hard\n", "row 1: the score of example 'a' is 'hard'"),
        ("id,score\na,\n", "not a number"),
        ("", r"is empty \(0 bytes\)"),
        ("id,score\na,1e308\nb,1\n", "'a' is 1e\\+308 .*a number below 1e\\+100"),
        ("id,score\na,true\nb,false\n", "row 1: the score of example 'a' is True"),
        ("id,score\n,1\nb,1\n", "row 1: the id is empty"),
        ("id,score\na,1\n  ,1\n", "row 2: the id is empty"),
        ("id,score,score\na,1,2\n", "the column 'score' occurs twice"),
        ("version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, text, words):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        load_profile(path)
    with pytest.raises(DataError, match="no difficulty file"):
        load_profile(tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (["a", None], "row 2: the id is empty"),
        ([["a"], ["b"]], r"ids in .* are of type list.*texts or whole numbers"),
        ([True, False], "are of type bool"),
        ([1.0, 2.5], "are of type double"),
        ([None, None], "are of type null"),
    ],
)
def test_ids_that_are_none(tmp_path, ids, words):
    pq.write_table(pa.table({"id": ids, "score": [1.0, 2.0]}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=words):
        load_profile(tmp_path / "p.parquet")


def test_a_column_that_is_missing_is_said_with_all_that_are_there(tmp_path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"id": ["a"], "difficulty": [1.0], "group": ["x"]}), path)
    with pytest.raises(DataError, match="no column 'score'; it has id, difficulty, group"):
        load_profile(path)


def test_scores_parted_by_semicolons_and_numbers_as_ids(tmp_path):
    (tmp_path / "p.csv").write_text("id;score\n007;1.5\nb;0.5\n")
    assert load_profile(tmp_path / "p.csv").ids == ("007", "b")
    pq.write_table(pa.table({"id": [7, 8], "score": [1, 2]}), tmp_path / "p.parquet")
    assert load_profile(tmp_path / "p.parquet").ids == ("7", "8")


def test_summary():
    profile = DifficultyProfile(("a", "b", "c"), np.asarray([1.0, 2.0, 6.0]))
    summary = summarize(profile, ["x", "y", "y"], "nats per token")
    assert summary["mean"] == 3 and summary["quantiles"]["0.5"] == 2
    assert summary["groups"] == {
        "x": {"mean": 1.0, "count": 1},
        "y": {"mean": 4.0, "count": 2},
    }
