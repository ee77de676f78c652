"""Estimates from a sample: the regression against plain least squares, and what is reported."""

import dataclasses

import datasets
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from tutelage.difficulty import estimate, estimate_scores, sample_ids
from tutelage.difficulty.features import row_features
from tutelage.errors import ConfigError, DataError


def graded_rows(count=400, seed=0):
    """Rows whose tokens are the rarer the longer they are."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        length = int(rng.integers(2, 20))
        answer = np.minimum(rng.zipf(1.3 + 3 / length, length) + 4, 499).tolist()
        rows.append(
            {"id": f"r{i:04d}", "input_ids": [1, 2, *answer], "labels": [-100, -100, *answer]}
        )
    return datasets.Dataset.from_list(rows)


def test_a_sample_does_not_depend_on_the_order_of_the_ids():
    ids = [f"{i:03d}" for i in range(100)]
    drawn = sample_ids(ids, 10, seed=3)
    assert len(set(drawn)) == 10 and list(drawn) == sorted(drawn)
    assert sample_ids(ids[::-1], 10, seed=3) == drawn[::-1]
    assert sample_ids(ids, 10, seed=4) != drawn
    assert sample_ids(ids, 100, seed=3) == sample_ids(ids, 500, seed=3) == tuple(ids)


def test_every_example_is_drawn_as_often_as_the_others():
    counts = dict.fromkeys("abcdefgh", 0)
    for seed in range(2000):
        for name in sample_ids("abcdefgh", 3, seed):
            counts[name] += 1
    assert scipy.stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_samples_of_nothing_and_repeated_ids_are_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        sample_ids(["a"], 0, seed=0)
    with pytest.raises(DataError, match="repeat"):
        sample_ids(["a", "a"], 1, seed=0)


def test_the_weights_are_those_of_brute_force_leave_one_out():
    rng = np.random.default_rng(0)
    design = rng.normal(size=(30, 5))
    design -= design.mean(axis=0)
    target = design @ rng.normal(size=5) + 2 * rng.normal(size=30)
    target -= target.mean()

    def fitted(rows, penalty):
        """Weights and intercept by a general minimiser of the penalised squared error."""
        x, y = np.column_stack([design[rows], np.ones(len(rows))]), target[rows]
        padding = np.sqrt(30 * penalty) * np.eye(6)[:5]
        found = scipy.optimize.lsq_linear(
            np.vstack([x, padding]), np.concatenate([y, np.zeros(5)]), method="bvls", tol=1e-14
        )
        return found.x

    errors = []
    for penalty in estimate._PENALTIES:
        left_out = []
        for i in range(30):
            weights = fitted(np.delete(np.arange(30), i), penalty)
            left_out.append(target[i] - design[i] @ weights[:5] - weights[5])
        errors.append(np.mean(np.square(left_out)))
    best = estimate._PENALTIES[int(np.argmin(errors))]
    assert 0 < np.argmin(errors) < len(errors) - 1
    np.testing.assert_allclose(
        estimate._ridge_weights(design, target), fitted(np.arange(30), best)[:5], rtol=1e-6
    )


def test_a_quadratic_of_the_features_is_found():
    rows = graded_rows()
    features = row_features(rows)
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    truth = 5 + standard @ [0.0, 1.0, -2.0, 0.5, 1.0, 0.3] + standard[:, 2] ** 2
    ids = rows["id"]
    sample = {ids[i]: truth[i] for i in range(0, 400, 2)}
    scores, report = estimate_scores(rows, sample)
    measured = np.arange(0, 400, 2)
    np.testing.assert_array_equal(scores[measured], truth[measured])
    unseen = np.arange(1, 400, 2)
    assert scipy.stats.spearmanr(scores[unseen], truth[unseen]).statistic > 0.98
    assert report.rank_correlation > 0.97 and report.r2 > 0.9 and report.rank_error < 5
    assert report.interval[0] <= report.rank_correlation <= report.interval[1] <= 1.0
    assert (report.num_sampled, report.num_examples) == (200, 400)


def test_the_report_says_when_nothing_can_be_predicted():
    rows = graded_rows()
    noise = np.random.default_rng(5).normal(size=400)
    _, report = estimate_scores(rows, dict(zip(rows["id"], noise, strict=True)))
    assert abs(report.rank_correlation) < 0.2
    # The standard error of a rank correlation of unrelated series is 1 / sqrt(n - 1).
    assert report.interval[1] - report.interval[0] == pytest.approx(2 * 1.96 / 399**0.5, rel=0.25)
    assert report.rank_error == pytest.approx(33, abs=4)
    assert report.r2 < 0.05


def test_the_report_is_held_out():
    """The numbers of the report, from predictions that are made fold by fold from outside."""
    # Prompts of all lengths, so that a row can be known again by its features.
    rows = [
        {
            **row,
            "input_ids": [1] * i + row["input_ids"],
            "labels": [-100] * i + row["labels"],
        }
        for i, row in enumerate(graded_rows(120))
    ]
    ids = [row["id"] for row in rows]
    features = row_features(rows)
    truth = features[:, 3] + np.random.default_rng(1).normal(size=120)
    seen = []

    class Recorded(estimate._Ridge):
        def predict(self, part):
            seen.append((self, part, super().predict(part)))
            return seen[-1][2]

    original = estimate._fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimate, "_fit", lambda x, y: Recorded(*dataclasses.astuple(original(x, y))))
        _, report = estimate_scores(rows, dict(zip(ids, truth, strict=True)), folds=4)
    assert [len(part) for _, part, _ in seen] == [30, 30, 30, 30, 120]
    place = {tuple(row): i for i, row in enumerate(features.tolist())}
    predicted = np.full(120, np.nan)
    for _, part, values in seen[:4]:
        for row, value in zip(part.tolist(), values, strict=True):
            assert np.isnan(predicted[place[tuple(row)]])
            predicted[place[tuple(row)]] = value
    for model, part, values in seen[:4]:
        held = {place[tuple(row)] for row in part.tolist()}
        rest = np.asarray([i for i in range(120) if i not in held])
        np.testing.assert_allclose(original(features[rest], truth[rest]).predict(part), values)
        assert model.bounds == (truth[rest].min(), truth[rest].max())
    assert report.rank_correlation == pytest.approx(scipy.stats.spearmanr(predicted, truth)[0])
    correlation = np.corrcoef(predicted, truth)[0, 1]
    assert report.r2 < correlation**2 + 1e-12
    unexplained = np.var(truth - predicted) + np.mean(truth - predicted) ** 2
    assert report.r2 == pytest.approx(1 - unexplained / np.var(truth))
    distance = np.abs(scipy.stats.rankdata(predicted) - scipy.stats.rankdata(truth))
    assert report.rank_error == pytest.approx(100 * np.mean(distance) / 120)


def test_nothing_is_extrapolated():
    rows = graded_rows(100)
    far = {"id": "far", "input_ids": [1] * 60 + [3] * 600, "labels": [-100] * 60 + [3] * 600}
    with_far = [*rows, far]
    truth = row_features(with_far)[:100, 1] ** 2
    scores, _ = estimate_scores(with_far, dict(zip(rows["id"], truth, strict=True)))
    assert truth.min() <= scores[100] <= truth.max()


def test_the_order_of_the_rows_does_not_matter():
    rows = graded_rows(200)
    truth = row_features(rows)[:, 2]
    sample = {name: truth[i] for i, name in enumerate(rows["id"]) if i % 2}
    order = np.random.default_rng(2).permutation(200)
    scores, report = estimate_scores(rows, sample, seed=7)
    again, same = estimate_scores(list(rows.select(order)), sample, seed=7)
    np.testing.assert_allclose(again, scores[order], rtol=1e-9)
    assert same.rank_correlation == pytest.approx(report.rank_correlation, rel=1e-9)


def test_rows_that_are_all_alike_are_predicted_by_the_mean():
    rows = [{"id": str(i), "input_ids": [1, 2], "labels": [-100, 2]} for i in range(80)]
    sample = {str(i): float(i % 7) for i in range(60)}
    scores, report = estimate_scores(rows, sample)
    np.testing.assert_allclose(scores[60:], np.mean(list(sample.values())))
    assert np.isfinite(report.interval).all() and report.r2 <= 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {**s, "other": 1.0}, "'other'"),
        (lambda s: dict(list(s.items())[:20]), "20 measured examples are too few"),
        (lambda s: {**s, "r0003": float("nan")}, "'r0003' is nan"),
        (lambda s: dict.fromkeys(s, 2.0), "All 60 measured scores are 2.0"),
    ],
)
def test_samples_that_teach_nothing_are_refused(change, words):
    rows = graded_rows(60)
    sample = {name: float(i) for i, name in enumerate(rows["id"])}
    with pytest.raises(DataError, match=words):
        estimate_scores(rows, change(sample))


@pytest.mark.parametrize("folds", [1, 61])
def test_folds_must_fit(folds):
    rows = graded_rows(60)
    sample = {name: float(i) for i, name in enumerate(rows["id"])}
    with pytest.raises(ConfigError, match="folds"):
        estimate_scores(rows, sample, folds=folds)
