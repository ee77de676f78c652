"""Subsets: which examples a stage may visit. Pure and seeded.

A subset function takes the number of examples, the sizes that pacing gave (shape ``[n]``), the
number of the stage (from 1) and a seed, and gives the places of the stage's examples in the
curriculum's order, from its first example (0) to its last: a slice, or a mask of shape ``[N]``.
"""

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import ConfigError

IntArray = NDArray[np.int64]
Places = slice | NDArray[np.bool_]


def prefix(num_examples: int, sizes: IntArray, stage: int, seed: int) -> Places:
    """The first ``sizes[stage - 1]`` examples: subsets that contain each other."""
    return slice(0, int(sizes[stage - 1]))


def band(
    num_examples: int, sizes: IntArray, stage: int, seed: int, *, cumulative: bool = False
) -> Places:
    """The examples between the ends of two bands: subsets that share nothing (CLPD).

    Args:
        num_examples: N, from the first band's first to the last one's last.
        sizes: where each band ends.
        stage: number of the band.
        seed: not used.
        cumulative: keep the earlier bands as well.
    """
    start = 0 if cumulative or stage == 1 else sizes[stage - 2]
    return slice(int(start), int(sizes[stage - 1]))


def stratified(
    num_examples: int, sizes: IntArray, stage: int, seed: int, *, easy_share: float = 0.1
) -> Places:
    r"""DA-KD's draw: mostly from the hardest rN examples, a little from the others.

    With R = rN the stage's size, ``high`` the R hardest examples and ``low`` the rest:
    :math:`(1 - s) R` are drawn from ``high`` and :math:`s R` from ``low``. Where ``low`` is too
    small for that, all of it is taken and ``high`` fills up.

    Args:
        num_examples: N, from the hardest to the easiest.
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
    from_low = min(round(easy_share * size), num_examples - size)
    # Streams of shuffling have three numbers or fewer; the fourth keeps this one apart.
    rng = np.random.default_rng([seed, stage, 0, 1])
    # A mask has the order of difficulty, so that the subset does not depend on the draw's own.
    drawn = np.zeros(num_examples, dtype=bool)
    drawn[rng.choice(size, size - from_low, replace=False)] = True
    if from_low:
        drawn[size + rng.choice(num_examples - size, from_low, replace=False)] = True
    return drawn
