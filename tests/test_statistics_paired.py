"""Tests of paired scores against scipy, against counting by hand, and against what they promise."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.errors import DataError
from tutelage.statistics import (
    holm,
    mcnemar,
    paired_test,
    pass_at_k,
    sign_flip,
    wilcoxon,
)

SCORES = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0])
PAIRS = st.lists(st.tuples(SCORES, SCORES, st.sampled_from(["", "a", "b", "c"])), min_size=1)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_the_binomial_test(first, second):
    found = mcnemar(first, second)
    total = first + second
    expected = scipy.stats.binomtest(first, total, 0.5).pvalue if total else 1.0
    assert found.p == pytest.approx(expected, rel=1e-9)
    least = scipy.stats.binomtest(0, total, 0.5).pvalue if total else 1.0
    assert found.least_p == pytest.approx(least, rel=1e-9) and found.num_untied == total


def test_mcnemar_of_very_many_pairs():
    expected = scipy.stats.binomtest(9800, 20000, 0.5).pvalue
    assert mcnemar(9800, 10200).p == pytest.approx(expected, rel=1e-9)


@given(st.integers(1, 50), st.integers(0, 10**6))
def test_wilcoxon_of_few_pairs_without_ties_is_exact(count, seed):
    differences = np.random.default_rng(seed).normal(0.3, size=count)
    found = wilcoxon([*differences, 0.0])
    expected = scipy.stats.wilcoxon(differences, method="exact").pvalue
    assert found.p == pytest.approx(expected, rel=1e-9)
    assert "exact" in found.name and found.num_untied == count


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_wilcoxon_of_few_pairs_with_ties_counts_all_signs(differences):
    untied = [d for d in differences if d]
    ranks = scipy.stats.rankdata(np.abs(untied))
    sums = [sum(r for r, s in zip(ranks, signs, strict=True) if s)
            for signs in itertools.product((0, 1), repeat=len(untied))]  # fmt: skip
    own = sum(r for r, d in zip(ranks, untied, strict=True) if d > 0)
    tail = min(np.mean([s <= own for s in sums]), np.mean([s >= own for s in sums]))
    assert wilcoxon(differences).p == pytest.approx(min(1.0, 2 * tail))


@settings(max_examples=40)
@given(st.integers(51, 300), st.integers(0, 10**6))
def test_wilcoxon_of_many_pairs_is_scipys_normal_approximation(count, seed):
    differences = np.random.default_rng(seed).integers(-5, 7, count) / 8
    found = wilcoxon(differences)
    if found.num_untied > 50:
        expected = scipy.stats.wilcoxon(differences, method="asymptotic", correction=False)
        assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
        assert "normal approximation" in found.name


@settings(max_examples=40)
@given(st.lists(st.integers(-6, 6), min_size=1, max_size=10))
def test_a_sign_flip_test_of_few_tries_all_signs(differences):
    if len(differences) > 1:
        expected = scipy.stats.permutation_test(
            (np.array(differences, float), np.zeros(len(differences))),
            lambda x, y, axis: (x - y).sum(axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=np.inf,
        ).pvalue
        assert sign_flip(differences).p == pytest.approx(expected)


def test_a_sign_flip_test_of_many_draws_and_is_close_to_all_of_them():
    differences = np.random.default_rng(0).normal(0.8, size=18)
    signs = 2 * (np.arange(2**18)[:, None] >> np.arange(18) & 1) - 1
    expected = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-9)
    found = sign_flip(differences)
    assert 0.005 < expected < 0.2 and found.p == pytest.approx(expected, rel=0.2)
    assert found == sign_flip(differences) != sign_flip(differences, seed=1)
    assert sign_flip(np.ones(40)).p == found.least_p == 1e-4


def test_the_test_that_fits_is_chosen():
    binary = ([1, 0, 1, 1], [0, 0, 1, 0])
    assert paired_test(*binary).name == "McNemar's test, exact"
    assert paired_test(*binary, ["", "", "a", "b"]).name == "McNemar's test, exact"
    assert paired_test(*binary, ["a", "a", "", ""]).name == "sign-flip test, exact"
    assert paired_test([0.5, 1], [0, 1]).name.startswith("Wilcoxon")


def test_questions_of_one_passage_do_not_count_as_many():
    first, second = np.ones(40), np.zeros(40)
    passages = [f"passage {i // 10}" for i in range(40)]
    assert paired_test(first, second).p < 1e-11
    found = paired_test(first, second, passages)
    assert found.p == found.least_p == 2 / 2**4 and found.num_untied == 4


def test_differences_that_only_rounding_keeps_apart_are_ties():
    assert 0.3 - 0.2 != 0.2 - 0.1
    found = paired_test([0.3, 0.1, 1.0], [0.2, 0.2, 0.5])
    assert found.p == wilcoxon([1, -1, 5]).p
    assert paired_test([0.1 + 0.2], [0.3]).num_untied == 0
    sums = paired_test([0.3, 0.1, 0.0, 1.0], [0.2, 0.2, 0.0, 0.5], ["a", "a", "b", "b"])
    assert sums.num_untied == 1


@given(PAIRS)
def test_p_is_a_share_no_less_than_the_least_and_the_same_from_both_sides(pairs):
    first, second, clusters = map(list, zip(*pairs, strict=True))
    for named in (None, clusters):
        found, other = paired_test(first, second, named), paired_test(second, first, named)
        assert 0 < found.least_p <= found.p <= 1
        assert found.p == pytest.approx(other.p, rel=1e-9)
        same = paired_test(first, first, named)
        assert (same.p, same.least_p, same.num_untied) == (1.0, 1.0, 0)


def test_a_test_raises_few_false_alarms():
    rng = np.random.default_rng(0)
    alarms = {"binary": 0, "graded": 0, "clustered": 0}
    passages = [str(i // 4) for i in range(40)]
    for _ in range(300):
        scores = rng.random((2, 40))
        alarms["binary"] += paired_test(*(scores < 0.5).astype(float)).p < 0.05
        alarms["graded"] += paired_test(*scores).p < 0.05
        shared = scores + np.repeat(rng.normal(size=(2, 10)), 4, axis=1)
        alarms["clustered"] += paired_test(*shared, passages).p < 0.05
    assert all(count <= 0.09 * 300 for count in alarms.values()), alarms


@pytest.mark.parametrize("pairs", [([], []), ([1.0, math.nan], [0.0, 0.0])])
def test_scores_that_cannot_be_tested(pairs):
    with pytest.raises(DataError, match="at least one pair and finite scores"):
        paired_test(*pairs)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_test_of_bonferroni(p_values):
    """Rejected is what every set of hypotheses that holds it rejects by its smallest p."""
    places = range(len(p_values))
    sets = [s for size in range(1, len(p_values) + 1) for s in itertools.combinations(places, size)]
    expected = [
        max(min(1.0, len(s) * min(p_values[i] for i in s)) for s in sets if place in s)
        for place in places
    ]
    assert holm(p_values) == pytest.approx(expected)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.2]) == [0.2]


@given(st.data())
def test_pass_at_k_is_exact(data):
    answers = data.draw(st.integers(1, 400))
    right, k = data.draw(st.integers(0, answers)), data.draw(st.integers(1, answers))
    wrong = Fraction(math.comb(answers - right, k), math.comb(answers, k))
    assert pass_at_k(right, answers, k) == pytest.approx(float(1 - wrong), rel=1e-11, abs=0)


def test_pass_at_k_is_the_mean_over_all_draws_and_not_the_biased_estimate():
    answers = [1, 1, 0, 0, 0]
    draws = [max(drawn) for drawn in itertools.combinations(answers, 3)]
    assert pass_at_k(2, 5, 3) == pytest.approx(np.mean(draws)) != 1 - (1 - 2 / 5) ** 3


@pytest.mark.parametrize(("right", "answers", "k"), [(1, 2, 3), (3, 2, 1), (0, 0, 1), (0, 2, 0)])
def test_pass_at_k_that_cannot_be_told(right, answers, k):
    with pytest.raises(DataError, match=f"pass@{k} needs at least"):
        pass_at_k(right, answers, k)
