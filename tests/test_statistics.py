"""Intervals against scipy, against the normal distribution, and against what they promise."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import DataError
from tutelage.statistics import (
    Difference,
    bootstrap,
    draws,
    paired_difference,
    standard_error,
    wilson_interval,
)

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
    monkeypatch.setattr("tutelage.statistics.intervals._DRAWN_AT_ONCE", 100)
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


CLUSTERED = st.lists(
    st.tuples(FINITE, st.sampled_from(["", "a", "b", "c"])), min_size=2, max_size=12
)


@given(CLUSTERED)
def test_clusters_of_one_change_nothing(pairs):
    values = [value for value, _ in pairs]
    names = [f"cluster {i}" for i in range(len(values))]
    plain = bootstrap(values, resamples=30)
    assert bootstrap(values, clusters=names, resamples=30) == plain
    assert bootstrap(values, clusters=[""] * len(values), resamples=30) == plain
    error = scipy.stats.sem(values)
    assert standard_error(values) == standard_error(values, names) == pytest.approx(error)


@given(CLUSTERED)
def test_the_clustered_standard_error_is_the_sum_over_pairs_of_one_cluster(pairs):
    values = np.array([value for value, _ in pairs])
    names = [name or str(place) for place, (_, name) in enumerate(pairs)]
    total, count = 0.0, len(set(names))
    for first, one in zip(values, names, strict=True):
        for second, other in zip(values, names, strict=True):
            total += (first - values.mean()) * (second - values.mean()) * (one == other)
    found = standard_error(values, names)
    if count < 2:
        assert math.isnan(found)
    else:
        expected = math.sqrt(max(total, 0.0) * count / (count - 1)) / len(values)
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6 * (1 + np.abs(values).max()))


def test_the_clustered_bootstrap_has_the_width_of_the_clustered_standard_error():
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 6, 300)
    names = np.repeat([f"p{i}" for i in range(300)], sizes)
    values = np.repeat(rng.normal(size=300), sizes) + rng.normal(0, 0.3, sizes.sum())
    found, error = bootstrap(values, clusters=names), standard_error(values, names)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.08)
    assert error > 1.3 * standard_error(values)


def test_copies_of_questions_tell_nothing_new():
    values = np.random.default_rng(4).random(30)
    names = [f"passage {i}" for i in range(30)]
    once = bootstrap(values, resamples=200)
    copied = bootstrap(np.tile(values, 3), clusters=names * 3, resamples=200)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    assert standard_error(np.tile(values, 3), names * 3) == pytest.approx(standard_error(values))
    assert not bootstrap([1.0, 0.0], clusters=["a", "a"]).known


def test_pairs_are_drawn_in_clusters_too():
    first = {f"e{i}": float(i // 3 % 2) for i in range(60)}
    second = dict.fromkeys(first, 0.0)
    plain = paired_difference(first, second)
    clusters = {f"e{i}": f"passage {i // 3}" for i in range(60)}
    found = paired_difference(first, second, clusters=clusters)
    assert found.interval.mean == plain.interval.mean == 0.5
    wider = (found.interval.high - found.interval.low) / (plain.interval.high - plain.interval.low)
    assert wider == pytest.approx(math.sqrt(3), rel=0.1)
    assert paired_difference(first, second, clusters={}) == plain


@given(st.integers(1, 2000), st.floats(0, 1))
def test_wilson_is_scipys(total, share):
    successes = round(share * total)
    expected = scipy.stats.binomtest(successes, total).proportion_ci(method="wilson")
    found = wilson_interval(successes, total)
    ends = (expected.low, expected.high)
    assert (found.low, found.high) == pytest.approx(ends, rel=1e-9, abs=1e-12)
    assert 0 <= found.low <= found.mean <= found.high <= 1


@pytest.mark.parametrize(("successes", "total"), [(0, 0), (2, 1), (-1, 3)])
def test_a_share_of_nothing_has_no_interval(successes, total):
    with pytest.raises(DataError, match="at least one case"):
        wilson_interval(successes, total)
