"""Intervals against scipy, against the normal distribution, and against what they promise."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import DataError
from tutelage.statistics import Difference, bootstrap, draws, paired_difference

FINITE = st.floats(-1e6, 1e6)


def test_close_to_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=200)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    found = bootstrap(values, resamples=5000)
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.05 * width)
    assert found.high == pytest.approx(expected.high, abs=0.05 * width)


def test_agrees_with_the_normal_interval():
    values = np.random.default_rng(1).normal(3.0, 2.0, 2000)
    found = bootstrap(values)
    half = 1.96 * values.std() / math.sqrt(values.size)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [bootstrap(rng.normal(3.0, size=50), resamples=300) for _ in range(300)]
    covered = np.mean([found.low <= 3.0 <= found.high for found in intervals])
    assert 0.90 <= covered <= 0.98


@given(st.lists(FINITE, min_size=2, max_size=20), st.integers(0, 5))
def test_inside_the_values_and_deterministic(values, seed):
    found = bootstrap(values, resamples=50, seed=seed)
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - slack <= found.low <= found.high <= max(values) + slack
    assert bootstrap(values, resamples=50, seed=seed) == found


def test_the_numbers_that_were_published_come_again():
    """An interval depends on values, count and seed alone: these ends are in stored results."""
    values = [0.0] * 30 + [1.0] * 70
    scores, report = bootstrap(values, resamples=1000), bootstrap(values)
    assert (scores.mean, scores.low, scores.high) == pytest.approx((0.7, 0.61, 0.78025))
    assert (report.mean, report.low, report.high) == pytest.approx((0.7, 0.61, 0.79))


def test_what_is_drawn_does_not_depend_on_how_many_are_in_memory(monkeypatch):
    values = np.random.default_rng(2).random(37)
    whole = bootstrap(values)
    monkeypatch.setattr("tutelage.statistics._DRAWN_AT_ONCE", 100)
    assert bootstrap(values) == whole
    shapes = [chunk.shape for chunk in draws(37, 5, np.random.default_rng(0))]
    assert shapes == [(2, 37), (2, 37), (1, 37)]


def test_constant_values_have_no_width_and_a_single_one_no_interval():
    found = bootstrap([0.5] * 10)
    assert (found.low, found.high) == (0.5, 0.5)
    assert bootstrap([0.25]).mean == 0.25 and not bootstrap([0.25]).known


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_values_that_have_no_interval(values):
    with pytest.raises(DataError, match="finite values"):
        bootstrap(values)


def test_pairs_take_out_what_examples_share():
    rng = np.random.default_rng(0)
    hard = {f"e{i}": float(v) for i, v in enumerate(rng.normal(0, 10, 80))}
    better = {key: value + 1.0 + 0.1 * float(rng.normal()) for key, value in reversed(hard.items())}
    found = paired_difference(better, hard)
    assert isinstance(found, Difference) and found.interval.excludes_zero
    assert found.interval.mean == pytest.approx(1.0, abs=0.05)
    assert 0.9 < found.interval.low < found.interval.mean < found.interval.high < 1.1
    assert found.num_examples == 80


@given(st.dictionaries(st.text(max_size=3), st.tuples(FINITE, FINITE), min_size=2, max_size=8))
def test_swapping_the_models_turns_the_sign(pairs):
    first = {key: a for key, (a, _) in pairs.items()}
    second = {key: b for key, (_, b) in pairs.items()}
    one, other = (
        paired_difference(first, second, resamples=20).interval,
        paired_difference(second, first, resamples=20).interval,
    )
    assert one.mean == pytest.approx(-other.mean)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_only_shared_examples_count_in_any_order():
    first = {"a": 1.0, "b": 2.0, "x": 100.0}
    second = {"y": -100.0, "b": 0.0, "a": 0.5}
    found = paired_difference(first, second)
    assert found.interval.mean == pytest.approx(1.25)
    assert found.num_examples == 2
    assert found == paired_difference(dict(reversed(first.items())), second)
    assert paired_difference({"a": 1.0}, {"b": 1.0}) is None
