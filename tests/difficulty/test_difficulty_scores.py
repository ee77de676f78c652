"""Scores, fusion, comparison and estimates against independent references."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest_models import VOCAB, random_rows, tiny_model
from tutelage.difficulty import (
    DIFFICULTIES,
    ExampleLosses,
    GivenMeasurements,
    compare_profiles,
    example_losses,
    needs,
    rank_fusion,
    score_examples,
    spearman,
    subset_overlap,
)
from tutelage.errors import ConfigError, DataError
from tutelage.types import DifficultyProfile

IDS = ["a", "b", "c"]


def losses(*sums, tokens=(2, 4, 1), entropies=None):
    return ExampleLosses(np.asarray(sums, dtype=float), np.asarray(tokens), entropies)


def test_entropies_are_those_of_the_whole_softmax():
    model, rows = tiny_model(seed=3, vocab=VOCAB + 4), random_rows(7)
    measured = example_losses(model, rows, vocab_size=VOCAB, entropies=True)
    plain = example_losses(model, rows, vocab_size=VOCAB)
    assert plain.entropy_sums is None
    np.testing.assert_allclose(plain.loss_sums, measured.loss_sums)
    model.eval()
    for row, found in zip(rows, measured.entropy_sums, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :, :VOCAB]
        expected = 0.0
        for place, label in enumerate(row["labels"]):
            if label >= 0:
                p = scipy.special.softmax(logits[place - 1].double().numpy())
                expected += scipy.stats.entropy(p)
        assert found == pytest.approx(expected, rel=1e-5)


def test_dds_is_the_ratio_of_losses_and_survives_a_sure_teacher():
    given_ = GivenMeasurements(
        IDS, student_losses=losses(4.0, 4.0, 3.0), teacher_losses=losses(2.0, 4.0, 0.0)
    )
    assert score_examples("dds", {}, given_).tolist() == [2.0, 1.0, 3.0 / 2**-23]
    # The paper's Figure 3 has a teacher as sure as this.
    given_ = GivenMeasurements(
        IDS, student_losses=losses(1.1055, 4.0, 3.0), teacher_losses=losses(3e-4, 4.0, 3.0)
    )
    assert score_examples("dds", {}, given_)[0] == pytest.approx(3685)


def test_sequence_entropy_by_token_and_in_sum():
    given_ = GivenMeasurements(
        IDS, student_losses=losses(1, 1, 1, entropies=np.asarray([4.0, 4.0, 0.5]))
    )
    assert score_examples("sequence_entropy", {}, given_).tolist() == [2.0, 1.0, 0.5]
    summed = score_examples("sequence_entropy", {"reduce": "sum"}, given_)
    assert summed.tolist() == [4.0, 4.0, 0.5]


def test_rouge_l_and_failure_rate_look_at_the_students_answers():
    given_ = GivenMeasurements(
        IDS,
        references=[["the cat sat"], ["4", "four"], ["no"]],
        given_answers=[["the cat sat", "x"], ["four", "5"], ["yes", "yes"]],
    )
    assert score_examples("rouge_l", {}, given_).tolist() == [0.0, 0.0, 1.0]
    options = {"samples": 2, "verifier": {"kind": "exact_match"}}
    assert score_examples("failure_rate", options, given_).tolist() == [0.5, 0.5, 1.0]
    with pytest.raises(ConfigError, match="Unknown metric 'exact_mach'"):
        score_examples("failure_rate", {"samples": 2, "verifier": {"kind": "exact_mach"}}, given_)


def test_lengths_and_columns():
    given_ = GivenMeasurements(
        IDS,
        response_tokens=np.asarray([3, 1, 2]),
        rationales=["1+1=2;2+2=4#4", "Step 1: a\nStep 2: b\nStep 3: c", "Yes."],
        rationale_tokens=np.asarray([9, 8, 7]),
        columns={"level": ["3", 1, 2.5], "words": ["x", "y", "z"]},
    )
    assert score_examples("response_length", {}, given_).tolist() == [3, 1, 2]
    assert score_examples("rationale_steps", {}, given_).tolist() == [2, 3, 1]
    assert score_examples("rationale_tokens", {}, given_).tolist() == [9, 8, 7]
    assert score_examples("column", {"name": "level"}, given_).tolist() == [3, 1, 2.5]
    easier = score_examples("column", {"name": "level", "higher_is": "easier"}, given_)
    assert easier.tolist() == [0, 2, 0.5]
    with pytest.raises(DataError, match="Row 1 of the data has 'x'"):
        score_examples("column", {"name": "words"}, given_)


def test_fusion_as_pocl_does_it():
    # POCL: ranks by ROUGE-L falling and by loss rising, sorted by the fused score falling.
    rng = np.random.default_rng(0)
    ids = [f"e{i:03d}" for i in range(200)]
    rouge, loss = rng.random(200), rng.random(200)
    rank_r = {ids[i]: place + 1 for place, i in enumerate(np.argsort(-rouge))}
    rank_c = {ids[i]: place + 1 for place, i in enumerate(np.argsort(loss))}
    fused = {i: 1 / (60 + rank_r[i]) + 1 / (60 + rank_c[i]) for i in ids}
    ours = rank_fusion(ids, [1 - rouge, loss], k=60)
    expected = sorted(ids, key=lambda i: (-fused[i], i))
    assert [ids[i] for i in np.lexsort((ids, ours))] == expected
    np.testing.assert_allclose(ours, [2 / 61 - fused[i] for i in ids], atol=1e-15)


def test_fusion_measures_its_parts():
    given_ = GivenMeasurements(
        IDS, student_losses=losses(2.0, 8.0, 3.0), response_tokens=np.asarray([5, 1, 9])
    )
    options = {"of": [{"kind": "student_loss"}, {"kind": "response_length"}], "k": 1}
    found = score_examples("rank_fusion", options, given_)
    # Ranks by loss 1, 2, 3 (1.0, 2.0, 3.0 per token), by length 2, 1, 3.
    np.testing.assert_allclose(found, 1 - np.asarray([1 / 2 + 1 / 3, 1 / 3 + 1 / 2, 1 / 4 + 1 / 4]))
    assert needs("rank_fusion", {"of": [{"kind": "dds"}, {"kind": "sequence_entropy"}]}) == {
        "student_losses",
        "teacher_losses",
        "entropies",
    }
    with pytest.raises(ConfigError, match="at least two scores"):
        score_examples("rank_fusion", {"of": [{"kind": "student_loss"}]}, given_)


def test_what_is_missing_or_not_finite_is_named():
    with pytest.raises(DataError, match="'dds' needs `teacher_losses`"):
        score_examples("dds", {}, GivenMeasurements(IDS, student_losses=losses(1, 1, 1)))
    given_ = GivenMeasurements(IDS, student_losses=losses(1.0, math.nan, 1.0))
    with pytest.raises(DataError, match="of example 'b' is nan"):
        score_examples("student_loss", {}, given_)
    with pytest.raises(ConfigError, match="Did you mean 'student_loss'"):
        score_examples("student_los", {}, given_)


def test_every_difficulty_says_what_it_needs_and_in_which_unit():
    for name, row in DIFFICULTIES.items():
        assert row.unit and bool(row.needs) != bool(row.parts), name
    assert DIFFICULTIES["student_loss"].unit_of({"reduce": "sum"}) == "nats"


@given(st.lists(st.integers(0, 5), min_size=3, max_size=40), st.integers(0, 99))
def test_spearman_is_scipys(values, seed):
    a = np.asarray(values, dtype=float)
    b = np.random.default_rng(seed).integers(0, 6, len(a)).astype(float)
    if a.std() == 0 or b.std() == 0:
        assert math.isnan(spearman(a, b))
    else:
        assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)


def test_profiles_are_compared_by_id():
    first = DifficultyProfile(("a", "b", "c", "d"), np.asarray([1.0, 2.0, 3.0, 4.0]))
    second = DifficultyProfile(("d", "c", "b", "a"), np.asarray([1.0, 2.0, 3.0, 4.0]))
    assert subset_overlap(first, second, 2) == 0.0 and subset_overlap(first, second, 3) == 2 / 3
    pair = compare_profiles({"x": first, "y": second}, [2, 4])[0]
    assert pair.spearman == pytest.approx(-1) and pair.overlaps == (0.0, 1.0)
    other = DifficultyProfile(("a",), np.asarray([1.0]))
    with pytest.raises(DataError, match="different examples"):
        compare_profiles({"x": first, "z": other}, [1])
