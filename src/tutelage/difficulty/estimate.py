"""Difficulty of a very large set from a measured sample, with the error of its ranking.

A ridge regression on what costs nothing: lengths, and how rare the answer's tokens and pairs of
tokens are in the data itself. No model is run for the examples outside of the sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.difficulty.compare import average_ranks, spearman
from tutelage.errors import ConfigError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MIN_SAMPLE = 20
"""With fewer measured examples nothing can be fitted and tested."""

_FOLDS = 5
_BOOTSTRAPS = 200


@dataclass(frozen=True)
class EstimateReport:
    """How good an estimated ranking is, from examples that the fit did not see.

    Attributes:
        sample_size: how many examples were measured.
        num_examples: how many there are in all.
        spearman: rank correlation of predicted and measured scores, out of fold.
        interval: its 95 % interval, by bootstrap over the sample.
        rank_error: mean absolute difference of ranks, as a part of the number of examples (a random
            order has 1/3).
        r2: share of the variance that is explained, out of fold.
    """

    sample_size: int
    num_examples: int
    spearman: float
    interval: tuple[float, float]
    rank_error: float
    r2: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def sample_ids(ids: Sequence[str], size: int, seed: int) -> list[str]:
    """A seeded draw of ids, which does not depend on their order.

    Raises:
        ConfigError: the sample is too small to fit and test anything.
    """
    if size < MIN_SAMPLE:
        raise ConfigError(
            f"difficulty.sample={size} is too few to estimate the others from; use at least"
            f" {MIN_SAMPLE}, better some hundreds."
        )
    rng = np.random.default_rng([seed, 4])
    chosen = rng.choice(len(ids), min(size, len(ids)), replace=False)
    ordered = sorted(ids)
    return [ordered[i] for i in sorted(chosen)]


def estimate_scores(rows: Any, measured: Mapping[str, float]) -> tuple[FloatArray, EstimateReport]:
    """Scores of all examples: measured where they were, predicted elsewhere.

    Args:
        rows: tokenized rows with ``id``, ``input_ids`` and ``labels``.
        measured: score by id of the sample.

    Returns:
        Scores in the order of the rows, shape ``[N]``, and how good the ranking is. Predictions
        stay within the range of what was measured.
    """
    ids = list(rows["id"])
    features = token_features(rows)
    known = np.asarray([example_id in measured for example_id in ids])
    y = np.asarray([measured[example_id] for example_id in ids if example_id in measured])
    x = features[known]
    folds = np.arange(len(y)) % _FOLDS
    np.random.default_rng(0).shuffle(folds)
    held_out = np.empty(len(y))
    for fold in range(_FOLDS):
        inside = folds != fold
        held_out[~inside] = _predict(x[inside], y[inside], x[~inside])
    scores = np.empty(len(ids))
    scores[known] = y
    if not known.all():
        scores[~known] = np.clip(_predict(x, y, features[~known]), y.min(), y.max())
    return scores, _report(y, held_out, len(ids))


def token_features(rows: Any) -> FloatArray:
    """What an example's tokens alone say of it, shape ``[N, F]``.

    Logarithms of the lengths of prompt and answer, mean and greatest surprisal of the answer's
    tokens by their counts in all answers, mean surprisal of its pairs of tokens given the first,
    and the share of different tokens in it.
    """
    lengths = np.asarray([len(row) for row in rows["input_ids"]], dtype=np.int64)
    labels = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows["labels"]])
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    answer = labels >= 0
    tokens, row_of_token = labels[answer], row_of[answer]
    counts = np.bincount(row_of_token, minlength=len(lengths))
    _, kind = np.unique(tokens, return_inverse=True)
    frequency = np.bincount(kind)
    surprisal = -np.log(frequency[kind] / len(kind))
    mean_surprisal = _row_mean(surprisal, row_of_token, counts)
    greatest = np.zeros(len(lengths))
    np.maximum.at(greatest, row_of_token, surprisal)
    same_row = row_of_token[1:] == row_of_token[:-1]
    pair_row = row_of_token[1:][same_row]
    pairs = kind[:-1][same_row] * np.int64(frequency.size) + kind[1:][same_row]
    _, pair_kind = np.unique(pairs, return_inverse=True)
    first = frequency[kind[:-1][same_row]]
    pair_surprisal = -np.log(np.bincount(pair_kind)[pair_kind] / first) if len(pairs) else pairs
    pair_counts = np.bincount(pair_row, minlength=len(lengths))
    distinct = np.unique(row_of_token * np.int64(frequency.size) + kind)
    variety = np.bincount(distinct // frequency.size, minlength=len(lengths))
    return np.column_stack(
        [
            np.log1p(lengths - counts),
            np.log1p(counts),
            mean_surprisal,
            greatest,
            _row_mean(pair_surprisal, pair_row, pair_counts),
            variety / np.maximum(counts, 1),
        ]
    )


def _row_mean(values: NDArray[Any], row_of: IntArray, counts: IntArray) -> FloatArray:
    return np.bincount(row_of, weights=values, minlength=len(counts)) / np.maximum(counts, 1)


def _predict(x: FloatArray, y: FloatArray, new: FloatArray) -> FloatArray:
    """Ridge regression on standardised features, their squares and products, in closed form."""
    center, scale = x.mean(0), x.std(0) + 1e-9

    def expand(raw: FloatArray) -> FloatArray:
        z = np.clip((raw - center) / scale, -4, 4)
        left, right = np.triu_indices(z.shape[1])
        return np.hstack([z, z[:, left] * z[:, right]])

    design = expand(x)
    offset = design.mean(0)
    design = design - offset
    # One unit of ridge for each ten examples, on features of about unit variance.
    gram = design.T @ design + (1.0 + 0.1 * len(y)) * np.eye(design.shape[1])
    weights = np.linalg.solve(gram, design.T @ (y - y.mean()))
    return y.mean() + (expand(new) - offset) @ weights


def _report(y: FloatArray, predicted: FloatArray, num_examples: int) -> EstimateReport:
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(y), len(y)) for _ in range(_BOOTSTRAPS)]
    spread = [spearman(y[draw], predicted[draw]) for draw in draws]
    low, high = np.nanquantile(spread, [0.025, 0.975]) if y.std() > 0 else (np.nan, np.nan)
    errors = np.abs(average_ranks(y) - average_ranks(predicted)) / len(y)
    variance = float(((y - y.mean()) ** 2).sum())
    r2 = 1.0 - float(((y - predicted) ** 2).sum()) / variance if variance > 0 else float("nan")
    return EstimateReport(
        len(y),
        num_examples,
        spearman(y, predicted),
        (float(low), float(high)),
        float(errors.mean()),
        r2,
    )
