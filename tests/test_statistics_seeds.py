"""Differences over seeds and examples: against scipy, against loops, and against known truths."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.errors import DataError
from tutelage.statistics import seeded_difference, student_quantile
from tutelage.statistics.seeds import crossed_variance


def rows(values_SN):
    return [{f"q{i}": float(d) for i, d in enumerate(row)} for row in values_SN]


def drawn(seed, seeds, examples, of_seeds=1.0, of_examples=1.0, of_both=1.0, shift=0.0):
    """Differences whose mean has these variances, in units of its own."""
    rng = np.random.default_rng(seed)
    found = rng.normal(shift, math.sqrt(of_seeds * seeds), (seeds, 1))
    found = found + rng.normal(0, math.sqrt(of_examples * examples), (1, examples))
    return found + rng.normal(0, math.sqrt(of_both * seeds * examples), (seeds, examples))


@given(st.floats(0.5, 0.9995), st.floats(1, 1e5))
def test_students_quantile_is_scipys(share, degrees):
    expected = scipy.stats.t.ppf(share, degrees)
    assert student_quantile(share, degrees) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_seeds_whose_examples_are_alike_have_students_interval():
    means = np.array([0.1, 0.4, 0.2, 0.35])
    found = seeded_difference(rows(np.repeat(means[:, None], 30, axis=1)))
    expected = scipy.stats.ttest_1samp(means, 0).confidence_interval()
    assert found.interval.low == pytest.approx(expected.low)
    assert found.interval.high == pytest.approx(expected.high)
    assert found.degrees == pytest.approx(3)
    assert found.by_seed == pytest.approx(means.tolist())


@pytest.mark.parametrize("seeds", [1, 4])
def test_seeds_that_do_not_differ_have_students_interval_over_examples(seeds):
    values = np.random.default_rng(0).normal(0.3, 1.0, 40)
    found = seeded_difference(rows(np.repeat(values[None], seeds, axis=0)))
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    assert found.interval.low == pytest.approx(expected.low)
    assert found.interval.high == pytest.approx(expected.high)


def test_means_alone_have_students_interval():
    means = [0.1, 0.4, 0.2]
    found = seeded_difference([{"": mean} for mean in means])
    expected = scipy.stats.ttest_1samp(means, 0).confidence_interval()
    assert (found.interval.low, found.interval.high) == pytest.approx(expected)


def test_each_part_of_the_variance_is_what_scipy_resamples():
    values_SN = drawn(3, 6, 50)
    for axis, count in ((1, 6), (0, 50)):
        means = values_SN.mean(axis=axis)
        drawn_error = scipy.stats.bootstrap(
            (means,), np.mean, n_resamples=20000, rng=np.random.default_rng(0)
        ).standard_error
        alone_SN = np.broadcast_to(means[:, None] if axis == 1 else means[None], (6, 50))
        variance, _ = crossed_variance(alone_SN, np.arange(50))
        assert variance == pytest.approx(drawn_error**2 * count / (count - 1), rel=0.04)


def by_loops(values_SN, clusters):
    """The same three parts from sums over single values, in no matrix form."""
    seeds, examples = len(values_SN), len(values_SN[0])
    names = sorted(set(clusters))
    mean = sum(map(sum, values_SN)) / (seeds * examples)
    of_seed = [sum(row) / examples for row in values_SN]
    of_example = [sum(row[i] for row in values_SN) / seeds for i in range(examples)]
    v_seeds = sum((m - mean) ** 2 for m in of_seed) / (seeds - 1) / seeds
    members = [[i for i in range(examples) if clusters[i] == name] for name in names]
    scale = len(names) / (len(names) - 1)
    v_examples = scale * sum(
        (sum(of_example[i] - mean for i in inside) / examples) ** 2 for inside in members
    )
    v_both = 0.0
    for s, inside in itertools.product(range(seeds), members):
        rest = sum(values_SN[s][i] - of_seed[s] - of_example[i] + mean for i in inside)
        v_both += scale * (rest / examples) ** 2 / (seeds * (seeds - 1))
    variance = max(v_seeds, v_examples, v_seeds + v_examples - v_both)
    degrees = variance**2 / (v_seeds**2 / (seeds - 1) + v_examples**2 / (len(names) - 1))
    return variance, max(degrees, seeds - 1)


@settings(max_examples=25)
@given(st.integers(2, 5), st.integers(4, 12), st.integers(0, 10**6))
def test_the_variance_of_clusters_is_that_of_loops(seeds, examples, seed):
    values_SN = drawn(seed, seeds, examples)
    names = np.random.default_rng(seed).integers(0, 3, examples)
    names[:2] = 0, 1
    _, numbers = np.unique(names, return_inverse=True)
    expected = by_loops(values_SN.tolist(), names.tolist())
    assert crossed_variance(values_SN, numbers) == pytest.approx(expected)


def test_drawing_both_at_once_counts_what_is_in_both_three_times():
    """The relation to the crossed bootstrap that the choice of the interval rests on."""
    values_SN = drawn(5, 8, 60, 0.5, 0.5, 1.0)
    rng = np.random.default_rng(0)
    seeds = rng.multinomial(8, [1 / 8] * 8, 40000) / 8
    examples = rng.multinomial(60, [1 / 60] * 60, 40000) / 60
    crossed = ((examples @ values_SN.T) * seeds).sum(axis=1).var()
    of_seeds = values_SN.mean(axis=1).var() / 8
    of_examples = values_SN.mean(axis=0).var() / 60
    centred = values_SN - values_SN.mean(1)[:, None] - values_SN.mean(0) + values_SN.mean()
    of_both = (centred**2).mean() / 8 / 60
    assert crossed == pytest.approx(of_seeds + of_examples + of_both, rel=0.03)


@pytest.mark.parametrize("parts", [(1, 0, 0), (0, 1, 0), (1, 1, 0), (1, 1, 1), (0, 0, 1)])
@pytest.mark.parametrize("seeds", [3, 10])
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds, parts):
    held = 0
    for seed in range(400):
        variance, degrees = crossed_variance(
            values := drawn(seed, seeds, 40, *parts), np.arange(40)
        )
        held += abs(values.mean()) <= student_quantile(0.975, degrees) * math.sqrt(variance)
    assert 0.925 <= held / 400 <= (1.0 if parts == (0, 0, 1) else 0.985)


def test_seeds_with_data_of_their_own_are_held_against_each_other():
    rng = np.random.default_rng(0)
    runs = [{f"{s}-{i}": float(d) for i, d in enumerate(rng.normal(0.5, 1, 30))} for s in range(5)]
    found = seeded_difference(runs)
    means = [np.mean(list(run.values())) for run in runs]
    expected = scipy.stats.ttest_1samp(means, 0).confidence_interval()
    assert (found.interval.low, found.interval.high) == pytest.approx(expected)
    assert (found.num_data_sets, found.degrees) == (5, 4)
    twice = seeded_difference([run for run in runs for _ in range(2)])
    assert twice.interval.low == pytest.approx(
        found.interval.low
    )  # seeds of one data set are one piece of evidence
    assert twice.test.p == found.test.p


def test_an_example_that_one_run_lacks_is_left_out_of_all():
    values = rows(drawn(0, 3, 10))
    fewer = [{i: d for i, d in run.items() if i != "q4"} for run in values]
    del values[1]["q4"]
    assert seeded_difference(values) == seeded_difference(fewer)
    assert seeded_difference(values).num_examples == 9


def test_copies_of_examples_tell_nothing_new():
    values_SN = drawn(0, 4, 20, 0.01, 1, 0)
    copies = rows(np.repeat(values_SN, 5, axis=1))
    clusters = {f"q{i}": f"passage {i // 5}" for i in range(100)}
    found, expected = seeded_difference(copies, clusters), seeded_difference(rows(values_SN))
    assert found.interval.low == pytest.approx(expected.interval.low)
    assert found.degrees == pytest.approx(expected.degrees)
    assert seeded_difference(copies).interval.low > found.interval.low


def test_few_seeds_cannot_have_a_small_p():
    for seeds, least in ((1, 1.0), (2, 0.5), (3, 0.25), (5, 0.0625), (10, 2 / 1024)):
        test = seeded_difference(rows(drawn(0, seeds, 30, 1e-4, 1e-4, 1e-4, shift=9.0))).test
        assert test.p == test.least_p == least


def test_methods_that_are_the_same_do_not_differ_by_rounding():
    thirds = [{"a": 1 / 3, "b": 0.1, "c": -0.1 - 1 / 3} for _ in range(4)]
    found = seeded_difference(thirds)
    assert not found.interval.excludes_zero and found.test.num_untied == 0
    nothing = seeded_difference(rows(np.zeros((3, 5))))
    assert (nothing.interval.low, nothing.interval.high) == (0, 0)
    assert not seeded_difference([{"a": 0.4}]).interval.known


@pytest.mark.parametrize("runs", [[], [{}], [{"a": 1.0}, {}], [{"a": math.nan}]])
def test_what_cannot_be_compared(runs):
    with pytest.raises(DataError, match="at least one seed"):
        seeded_difference(runs)
