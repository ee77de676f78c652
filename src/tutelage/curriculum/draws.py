"""Draws: how often a stage visits each example, where it withholds none. Pure and seeded."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from tutelage.components import Limits
from tutelage.errors import ConfigError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.integer]


def tilted(
    scores: FloatArray,
    stage: int,
    num_stages: int,
    *,
    start: Annotated[float, Limits(0, 1)] = 0.5,
    end: Annotated[float, Limits(0, 1)] = 1.0,
    floor: Annotated[float, Limits(0, 1, True)] = 0.2,
) -> FloatArray:
    r"""Of all draws with a stage's mean difficulty the one that is nearest to an even draw.

    The mean difficulty aimed at rises by equal amounts from stage to stage, as in CPD, but every
    stage draws from all of the data:

    .. math:: w_i = f + (1 - f)\,\frac{N e^{-\lambda L_i}}{\sum_j e^{-\lambda L_j}}, \qquad
              \frac1N \sum_i w_i L_i = L_{(1)} + x_e\,(\bar L - L_{(1)})

    with :math:`x_e` in a line from ``start`` to ``end``. At 1 the draw is even.

    Args:
        scores: difficulties L in rising order.
        stage: e, from 1.
        num_stages: n.
        start: x of the first stage: how far the mean lies from the easiest example's difficulty
            to the mean of all.
        end: x of the last one.
        floor: f; no example is drawn less often than this part of an even draw.

    Returns:
        Weights with mean 1, shape ``[N]``.

    Raises:
        ConfigError: a mean that the floor does not allow.
    """
    if not floor < min(start, end) <= max(start, end) <= 1.0:
        raise ConfigError(
            f"`start` ({start:g}) and `end` ({end:g}) must lie above `floor` ({floor:g}) and not"
            " above 1: the part of the draw that is even keeps the mean up."
        )
    x = end if num_stages == 1 else start + (end - start) * (stage - 1) / (num_stages - 1)
    above = scores - scores[0]
    mean = float(above.mean())
    if mean == 0.0 or x == 1.0:
        return np.ones(len(scores))
    wanted = mean * (x - floor) / (1.0 - floor)
    tilt = np.exp(-_steepness(above / mean, wanted / mean) * (above / mean))
    return floor + (1.0 - floor) * tilt / tilt.mean()


def _steepness(above: FloatArray, wanted: float) -> float:
    """The lambda at which the tilted mean of ``above`` (from 0, with mean 1) is ``wanted``."""
    low, high, guess = 0.0, np.inf, 1.0
    for _ in range(200):
        weights = np.exp(-guess * above)
        weights /= weights.sum()
        mean = float(weights @ above)
        if abs(mean - wanted) <= 1e-12 * wanted:
            break
        if mean > wanted:
            low = guess
        else:
            high = guess
        # Newton's step: the slope of the mean is the variance. Within what is known, else halved.
        variance = float(weights @ np.square(above - mean))
        step = guess + (mean - wanted) / variance if variance > 0 else np.inf
        guess = step if low < step < high else (2 * low if high == np.inf else (low + high) / 2)
    return guess


def drawn(
    examples: IntArray, weights: FloatArray, count: int, rng: np.random.Generator
) -> IntArray:
    """A shuffled draw in which every example comes as often as its weight says, up to rounding.

    Not each visit by itself: an example with weight w comes ``count * w / sum(weights)`` times,
    rounded down or up, so that a draw is no more uneven than it must be.

    Args:
        examples: what is drawn from.
        weights: of each of them.
        count: how many visits.
        rng: gives the order, and who is rounded up.

    Returns:
        Shape ``[count]``.
    """
    order = rng.permutation(len(examples))
    ends = np.cumsum(weights[order])
    points = (np.arange(count) + rng.random()) * (ends[-1] / max(count, 1))
    places = np.minimum(np.searchsorted(ends, points, side="right"), len(examples) - 1)
    return rng.permutation(examples[order[places]])
