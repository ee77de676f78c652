r"""The win rate that is left when both answers are as long.

A judge that likes long answers makes long-winded models win. Dubois et al. take that out by a
logistic regression of the verdict on who wrote the answers and on the difference of their lengths,
and ask it for the win rate at no difference:

.. math:: P(\text{first wins}) = \sigma\left(\theta
          + \varphi \tanh\left(\frac{\ell_1 - \ell_2}{\operatorname{std}(\ell_1 - \ell_2)}\right)
          \right), \qquad \text{length-controlled win rate} = \sigma(\theta).

Their term for how hard a question is needs many models judged on the same questions, and is left
out. The weight of length has a weak penalty, by which it stays finite where length decides all.

References:
    Dubois et al., Length-Controlled AlpacaEval, arXiv:2404.04475.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tutelage.statistics import RESAMPLES, Interval
from tutelage.statistics.intervals import cluster_numbers, draws, percentile_interval

PENALTY = 0.1
"""Half of it times the square of either parameter is added to the loss: as if they came from a
normal distribution with a standard deviation of 3.2. Where a judge sees nothing but length, the
rate then lies within 0.06 of a half (standard deviation, 200 pairs); with a tenth of it within
0.09, and ten times as much leaves a part of what length decides."""

_STEPS = 60
_LARGEST_STEP = 4.0


@dataclass(frozen=True)
class LengthControlled:
    """A win rate at equal lengths.

    Attributes:
        rate: with its 95 % interval.
        weight: of length: above 0 where the judge prefers longer answers.
    """

    rate: Interval
    weight: float


def length_terms(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """The term of each pair for its difference of lengths, shape ``[N]``; 0 when all are alike."""
    gaps = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    spread = gaps.std()
    return np.tanh(gaps / spread) if spread > 0 else np.zeros_like(gaps)


def fit(scores: ArrayLike, terms: ArrayLike, weights: ArrayLike | None = None) -> NDArray:
    """Theta and phi, by Newton's method on the penalised log-likelihood.

    Args:
        scores: 1 when the first answer wins, 0 when the second does, between for ties; ``[N]``.
        terms: of length, shape ``[N]``.
        weights: how often each pair counts, shape ``[N]`` or ``[R, N]``; once each when left out.

    Returns:
        Shape ``[2]`` or ``[R, 2]``.
    """
    scores_N, terms_N = np.asarray(scores, np.float64), np.asarray(terms, np.float64)
    weights_RN = np.atleast_2d(np.ones_like(scores_N) if weights is None else weights)
    design_N2 = np.stack([np.ones_like(terms_N), terms_N], axis=1)
    products_N4 = (design_N2[:, :, None] * design_N2[:, None, :]).reshape(-1, 4)
    found_R2 = np.zeros((len(weights_RN), 2))
    for _ in range(_STEPS):
        share_RN = _sigmoid(found_R2 @ design_N2.T)
        slope_R2 = (weights_RN * (scores_N - share_RN)) @ design_N2 - PENALTY * found_R2
        curve_R4 = (weights_RN * share_RN * (1 - share_RN)) @ products_N4
        curve_R22 = curve_R4.reshape(-1, 2, 2) + PENALTY * np.eye(2)
        step_R2 = np.linalg.solve(curve_R22, slope_R2[:, :, None])[:, :, 0]
        # Far out the curve is flat, and a whole step would go much too far.
        found_R2 += np.clip(step_R2, -_LARGEST_STEP, _LARGEST_STEP)
        if np.abs(step_R2).max() < 1e-10:
            break
    return found_R2 if weights is not None and np.ndim(weights) == 2 else found_R2[0]


def length_controlled(
    scores: ArrayLike,
    first_lengths: ArrayLike,
    second_lengths: ArrayLike,
    clusters: Sequence[str] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LengthControlled:
    """The length-controlled win rate of first answers, with its interval over questions.

    Args:
        scores: of each pair, 1 when the first answer wins, 0 when the second does, shape ``[N]``.
        first_lengths: of first answers, shape ``[N]``.
        second_lengths: of second answers, shape ``[N]``.
        clusters: of each question; those that share one are drawn together.
        resamples: how often the regression is made again.
        seed: of the drawing.
    """
    scores_N = np.asarray(scores, dtype=np.float64)
    terms_N = length_terms(first_lengths, second_lengths)
    theta, phi = fit(scores_N, terms_N)
    rate = float(_sigmoid(theta))
    numbers_N = cluster_numbers(clusters, len(scores_N))
    count = int(numbers_N.max()) + 1
    if count < 2:
        return LengthControlled(Interval(rate), float(phi))
    rates = []
    for drawn_RG in draws(count, resamples, np.random.default_rng(seed)):
        for part in np.array_split(drawn_RG, -(-len(drawn_RG) // 200)):
            times_RG = np.stack([np.bincount(row, minlength=count) for row in part])
            rates.append(_sigmoid(fit(scores_N, terms_N, times_RG[:, numbers_N])[:, 0]))
    return LengthControlled(Interval(rate, *percentile_interval(np.concatenate(rates))), float(phi))


def _sigmoid(values: ArrayLike) -> NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(values, dtype=np.float64)))
