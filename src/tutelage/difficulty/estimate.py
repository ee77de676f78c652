"""Difficulty of a very large set from a sample: measure some, predict the rest, say how well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.data.lengths import stored_texts
from tutelage.difficulty.compare import average_ranks, spearman
from tutelage.difficulty.features import FEATURES, row_features
from tutelage.difficulty.measurements import FloatArray, IntArray
from tutelage.errors import ConfigError, DataError
from tutelage.ids import Ids
from tutelage.statistics import draws, percentile_interval
from tutelage.types import check_unique

MIN_SAMPLE = 50
"""Fewest measured examples: four for each weight of the model."""

_PENALTIES = 10.0 ** np.arange(-6, 3)
_RESAMPLES = 500


@dataclass(frozen=True)
class EstimateReport:
    """How well scores were predicted that the model had not seen.

    Every measured example is predicted once by a model that was fitted without it (k-fold
    cross-validation), and the choice of the penalty is made without it too.

    Attributes:
        num_sampled: examples with a measured score.
        num_examples: examples in all.
        rank_correlation: Spearman's, between predicted and measured scores; 0 when the predictions
            are all equal, as they order nothing.
        interval: its 95 % interval, by bootstrap over the measured examples.
        rank_error: mean distance between the predicted and the measured rank, in percentiles of the
            sample; 33 is chance.
        r2: share of the variance of the measured scores that is explained; below 0 is worse than
            their mean.
    """

    num_sampled: int
    num_examples: int
    rank_correlation: float
    interval: tuple[float, float]
    rank_error: float
    r2: float


@dataclass(frozen=True)
class _Ridge:
    """Ridge regression on standardised features and their squares, fitted.

    Attributes:
        low: least value of each feature in the sample, shape ``[F]``.
        high: greatest one.
        center: means of the features.
        scale: their standard deviations.
        weights: of the features and of their squares, shape ``[2 F]``.
        intercept: of the prediction.
        bounds: least and greatest score of the sample.
    """

    low: FloatArray
    high: FloatArray
    center: FloatArray
    scale: FloatArray
    weights: FloatArray
    intercept: float
    bounds: tuple[float, float]

    def predict(self, features: FloatArray) -> FloatArray:
        """Scores of rows, shape ``[N]``; nothing is extrapolated, squares would run away."""
        inside = np.clip(features, self.low, self.high)
        scores = _expanded((inside - self.center) / self.scale) @ self.weights + self.intercept
        return np.clip(scores, *self.bounds)


def sample_ids(ids: Sequence[str], size: int, seed: int) -> tuple[str, ...]:
    """Examples to measure: drawn evenly and without replacement.

    The draw depends on the set of ids and the seed, not on the order of the ids.

    Args:
        ids: ids of all examples, unique.
        size: how many; all of them when there are no more.
        seed: of the draw.

    Returns:
        The drawn ids, in the order of ``ids``.

    Raises:
        ConfigError: a size below 1.
        DataError: ids that repeat.

    Examples:
        >>> sample_ids(["a", "b", "c", "d"], 2, seed=0) == sample_ids(["a", "b", "c", "d"], 2, 0)
        True
    """
    if size < 1:
        raise ConfigError(f"A sample of {size} examples measures nothing. Use at least 1.")
    # Read once: a column of a data set is decoded anew at every reading.
    names = Ids.of(ids)
    check_unique(names)
    if size >= len(names):
        return tuple(names)
    drawn = np.random.default_rng(seed).choice(len(names), size, replace=False)
    by_id = names.order_by(np.zeros(len(names)))
    return tuple(names.take(np.sort(by_id[drawn])))


def estimate_scores(
    rows: Any, sample_scores: Mapping[str, float], *, folds: int = 5, seed: int = 0
) -> tuple[FloatArray, EstimateReport]:
    r"""Scores of all rows from the measured scores of some of them.

    Ridge regression in closed form on the standardised features of
    :func:`tutelage.difficulty.features.row_features` and their squares,

    .. math:: w = (A^\top A + n \lambda I)^{-1} A^\top (y - \bar y)

    with the penalty that has the least leave-one-out error. A predicted score stays within the
    range of the measured ones. Predictions are drawn towards the mean: the order can be trusted as
    far as the report says, the spread of predicted scores is too small.

    Args:
        rows: a data set, or a sequence of mappings, with ``id``, ``input_ids`` and ``labels``.
        sample_scores: measured score by example id, at least ``MIN_SAMPLE`` of them.
        folds: parts of the cross-validation.
        seed: of the parts and of the bootstrap.

    Returns:
        Scores in the order of the rows, measured where measured and predicted elsewhere, shape
        ``[N]``; and how good the predictions are.

    Raises:
        ConfigError: fewer than two folds, or more than measured examples.
        DataError: ids that repeat or are in no row, too few measured scores, scores that are not
            finite or all equal.

    References:
        Hoerl and Kennard, Ridge Regression, Technometrics 1970.
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    listed = isinstance(rows, Sequence)
    ids = Ids(row["id"] for row in rows) if listed else stored_texts(rows, "id")
    places, measured = _sample(ids, sample_scores)
    if not 2 <= folds <= len(measured):
        raise ConfigError(
            f"Cross-validation of {len(measured)} measured examples cannot have {folds=}. Use 5."
        )
    features = row_features(rows)
    known = features[places]
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.arange(len(measured)) % folds)
    predicted = np.empty(len(measured))
    for number in range(folds):
        held = fold == number
        predicted[held] = _fit(known[~held], measured[~held]).predict(known[held])
    scores = _fit(known, measured).predict(features)
    scores[places] = measured
    return scores, _report(predicted, measured, len(ids), rng)


def _sample(ids: Ids, sample_scores: Mapping[str, float]) -> tuple[IntArray, FloatArray]:
    """Rows and scores of the measured examples, in the order of their ids."""
    check_unique(ids)
    # Sorted, so that the folds do not depend on the order of the rows.
    names = sorted(sample_scores)
    rows = ids.locate(Ids(names))
    row_of = dict(zip(names, rows.tolist(), strict=True))
    strangers = [name for name in sample_scores if row_of[name] < 0]
    if strangers:
        raise DataError(
            f"{len(strangers)} measured examples are in no row, for example '{strangers[0]}'."
            " Give the rows that the sample was drawn from."
        )
    if len(sample_scores) < MIN_SAMPLE:
        raise DataError(
            f"{len(sample_scores)} measured examples are too few to learn from: there are"
            f" {2 * len(FEATURES)} weights to fit. Measure at least {MIN_SAMPLE}, better 1,000."
        )
    scores = np.asarray([sample_scores[name] for name in names], dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise DataError(
            f"The measured score of example '{names[bad[0]]}' is {scores[bad[0]]}. Leave it out of"
            " the sample."
        )
    if scores.min() == scores.max():
        raise DataError(
            f"All {len(scores)} measured scores are {scores[0]}, so there is nothing to learn from"
            " them. Use a difficulty that tells examples apart."
        )
    return rows.astype(np.int64), scores


def _fit(features: FloatArray, scores: FloatArray) -> _Ridge:
    center, scale = features.mean(axis=0), _spread(features)
    columns = _expanded((features - center) / scale)
    # Squares are standardised as well, so that the penalty treats all columns alike.
    means, spreads = columns.mean(axis=0), _spread(columns)
    weights = _ridge_weights((columns - means) / spreads, scores - scores.mean()) / spreads
    return _Ridge(
        low=features.min(axis=0),
        high=features.max(axis=0),
        center=center,
        scale=scale,
        weights=weights,
        intercept=float(scores.mean() - means @ weights),
        bounds=(float(scores.min()), float(scores.max())),
    )


def _ridge_weights(design: FloatArray, centered: FloatArray) -> FloatArray:
    """Weights under the penalty with the least leave-one-out error.

    The error of a prediction without the example itself follows from the fit with it: the residual
    over one minus the leverage. Nothing is fitted n times.

    Args:
        design: columns of mean 0, shape ``[n, C]``.
        centered: scores less their mean, shape ``[n]``.
    """
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    projected = left.T @ centered
    count = len(centered)
    errors: list[float] = []
    for penalty in _PENALTIES:
        shrink = singular**2 / (singular**2 + count * penalty)
        # The leverage of the intercept, which is not penalised, is 1 / n.
        leverage = 1 / count + left**2 @ shrink
        errors.append(
            float(np.mean(((centered - left @ (shrink * projected)) / (1 - leverage)) ** 2))
        )
    penalty = _PENALTIES[int(np.argmin(errors))]
    return right.T @ (singular / (singular**2 + count * penalty) * projected)


def _expanded(standard: FloatArray) -> FloatArray:
    return np.concatenate([standard, standard**2], axis=1)


def _spread(columns: FloatArray) -> FloatArray:
    """Standard deviations; 1 for a constant column, which then is 0 and gets no weight."""
    spread = columns.std(axis=0)
    return np.where(spread > 1e-12 * (1 + np.abs(columns).max(axis=0)), spread, 1.0)


def _report(
    predicted: FloatArray, measured: FloatArray, num_examples: int, rng: np.random.Generator
) -> EstimateReport:
    count = len(measured)
    resampled = [
        _order_kept(predicted[drawn], measured[drawn])
        for chunk in draws(count, _RESAMPLES, rng)
        for drawn in chunk
    ]
    distance = np.abs(average_ranks(predicted) - average_ranks(measured))
    residual = float(np.sum((measured - predicted) ** 2))
    return EstimateReport(
        num_sampled=count,
        num_examples=num_examples,
        rank_correlation=_order_kept(predicted, measured),
        interval=percentile_interval(resampled),
        rank_error=float(100 * distance.mean() / count),
        r2=1 - residual / float(np.sum((measured - measured.mean()) ** 2)),
    )


def _order_kept(predicted: FloatArray, measured: FloatArray) -> float:
    correlation = spearman(predicted, measured)
    return 0.0 if np.isnan(correlation) else correlation
