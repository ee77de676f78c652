"""Subsets: which examples a stage may visit. Pure and seeded.

A subset function takes the examples from the curriculum's first to its last (shape ``[N]``,
positions), the sizes that pacing gave (shape ``[n]``), the number of the stage (from 1) and a seed,
and gives the stage's positions.
"""

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import ConfigError

IntArray = NDArray[np.int64]


def prefix(order: IntArray, sizes: IntArray, stage: int, seed: int) -> IntArray:
    """The first ``sizes[stage - 1]`` examples: subsets that contain each other."""
    return order[: sizes[stage - 1]]


def band(
    order: IntArray, sizes: IntArray, stage: int, seed: int, *, cumulative: bool = False
) -> IntArray:
    """The examples between the ends of two bands: subsets that share nothing (CLPD).

    Args:
        order: examples from the first band's to the last one's.
        sizes: where each band ends.
        stage: number of the band.
        seed: not used.
        cumulative: keep the earlier bands as well.
    """
    start = 0 if cumulative or stage == 1 else sizes[stage - 2]
    return order[start : sizes[stage - 1]]


def stratified(
    order: IntArray, sizes: IntArray, stage: int, seed: int, *, easy_share: float = 0.1
) -> IntArray:
    r"""DA-KD's draw: mostly from the hardest rN examples, a little from the others.

    With R = rN the stage's size, ``high`` the R hardest examples and ``low`` the rest:
    :math:`(1 - s) R` are drawn from ``high`` and :math:`s R` from ``low``. Where ``low`` is too
    small for that, all of it is taken and ``high`` fills up.

    Args:
        order: examples from the hardest to the easiest.
        sizes: how many examples each stage has.
        stage: number of the stage.
        seed: of the draw; every stage draws for itself.
        easy_share: s, in [0, 1).

    Raises:
        ConfigError: ``easy_share`` lies outside [0, 1).

    References:
        He et al., DA-KD, ICML 2025, PMLR 267 (its stratified data update).
    """
    if not 0.0 <= easy_share < 1.0:
        raise ConfigError(f"`easy_share` must lie in [0, 1), got {easy_share}.")
    size = int(sizes[stage - 1])
    high, low = order[:size], order[size:]
    from_low = min(round(easy_share * size), len(low))
    # Streams of shuffling have three numbers or fewer; the fourth keeps this one apart.
    rng = np.random.default_rng([seed, stage, 0, 1])
    drawn = np.concatenate(
        [
            rng.choice(high, size - from_low, replace=False),
            rng.choice(low, from_low, replace=False),
        ]
    )
    # In the order of difficulty again, so that the subset does not depend on the draw's own order.
    return order[np.isin(order, drawn)]
