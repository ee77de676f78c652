"""Intervals against scipy and against what they promise."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import ConfigError, DataError
from tutelage.evaluation import bootstrap_interval, paired_difference

FINITE = st.floats(-1e6, 1e6)


def test_close_to_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=200)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    low, high = bootstrap_interval(values, samples=5000)
    width = expected.high - expected.low
    assert low == pytest.approx(expected.low, abs=0.05 * width)
    assert high == pytest.approx(expected.high, abs=0.05 * width)


def test_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [bootstrap_interval(rng.normal(3.0, size=50), samples=300) for _ in range(300)]
    covered = np.mean([low <= 3.0 <= high for low, high in intervals])
    assert 0.90 <= covered <= 0.98


@given(st.lists(FINITE, min_size=1, max_size=20), st.integers(0, 5))
def test_inside_the_values_and_deterministic(values, seed):
    low, high = bootstrap_interval(values, samples=50, seed=seed)
    slack = 1e-9 * (1 + max(map(abs, values)))
    assert min(values) - slack <= low <= high <= max(values) + slack
    assert bootstrap_interval(values, samples=50, seed=seed) == (low, high)


def test_more_confidence_is_wider():
    values = np.random.default_rng(0).normal(size=100)
    low, high = bootstrap_interval(values, confidence=0.5)
    wide_low, wide_high = bootstrap_interval(values, confidence=0.99)
    assert wide_low < low < high < wide_high


def test_chunks_of_the_drawing_cover_all_samples():
    values = np.random.default_rng(0).normal(loc=5.0, size=300_000)  # three samples at once
    low, high = bootstrap_interval(values, samples=10)
    assert 4.9 < low < high < 5.1


def test_constant_values_and_a_single_one_have_no_width():
    assert bootstrap_interval([0.5] * 10) == (0.5, 0.5)
    assert bootstrap_interval([0.25]) == (0.25, 0.25)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_values_that_have_no_interval(values):
    with pytest.raises(DataError, match="finite values"):
        bootstrap_interval(values)


@pytest.mark.parametrize("options", [{"confidence": 1.0}, {"confidence": 0.0}, {"samples": 0}])
def test_bad_options(options):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        bootstrap_interval([1.0, 2.0], **options)


def test_pairs_are_matched_by_id():
    rng = np.random.default_rng(0)
    hard = {f"e{i}": float(v) for i, v in enumerate(rng.normal(0, 10, 80))}
    better = {key: value + 1.0 + 0.1 * float(rng.normal()) for key, value in reversed(hard.items())}
    found = paired_difference(better, hard)
    assert found.mean == pytest.approx(1.0, abs=0.05)
    assert 0.9 < found.interval[0] < found.mean < found.interval[1] < 1.1
    assert found.num_examples == 80


@given(st.dictionaries(st.text(max_size=3), st.tuples(FINITE, FINITE), min_size=1, max_size=8))
def test_swapping_the_models_turns_the_sign(pairs):
    first = {key: a for key, (a, _) in pairs.items()}
    second = {key: b for key, (_, b) in pairs.items()}
    one, other = (
        paired_difference(first, second, samples=20),
        paired_difference(second, first, samples=20),
    )
    assert one.mean == pytest.approx(-other.mean)
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))


def test_only_shared_examples_count_in_any_order():
    first = {"a": 1.0, "b": 2.0, "x": 100.0}
    second = {"y": -100.0, "b": 0.0, "a": 0.5}
    found = paired_difference(first, second)
    assert found.mean == pytest.approx(1.25)
    assert found.num_examples == 2
    assert found == paired_difference(dict(reversed(first.items())), second)


def test_nothing_shared():
    with pytest.raises(DataError, match="share no example id"):
        paired_difference({"a": 1.0}, {"b": 1.0})
