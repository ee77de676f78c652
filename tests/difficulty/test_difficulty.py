"""Difficulty: measured losses against the model's own, profiles as values and as files."""

import numpy as np
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
        ("", "cannot be read"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, text, words):
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        load_profile(path)
    with pytest.raises(DataError, match="no difficulty file"):
        load_profile(tmp_path / "other.csv")


def test_summary():
    profile = DifficultyProfile(("a", "b", "c"), np.asarray([1.0, 2.0, 6.0]))
    summary = summarize(profile, ["x", "y", "y"], "nats per token")
    assert summary["mean"] == 3 and summary["quantiles"]["0.5"] == 2
    assert summary["groups"] == {
        "x": {"mean": 1.0, "count": 1},
        "y": {"mean": 4.0, "count": 2},
    }
