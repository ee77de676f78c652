"""Pacing: how much of the data each stage uses. Pure functions of the difficulty profile.

A pacing function takes the running mean of the sorted difficulties (shape ``[N]``, float64, never
falling) and the number of stages, and gives the subset size of each stage, shape ``[n]``, int64:
never falling, each between 1 and N, the last one N.
"""

import math

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import ConfigError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def _finish(sizes: IntArray, num_examples: int) -> IntArray:
    """Clip to [1, N], never falling, and let the last stage hold everything."""
    sizes = np.maximum.accumulate(np.clip(sizes, 1, num_examples)).astype(np.int64)
    sizes[-1] = num_examples
    return sizes


def calibrated_targets(running_mean: FloatArray, num_stages: int) -> FloatArray:
    r"""Mean difficulties that rise by equal amounts, :math:`\frac{e}{n}\,\bar L(N)`, ``[n]``."""
    return running_mean[-1] * np.arange(1, num_stages + 1) / num_stages


def calibrated(running_mean: FloatArray, num_stages: int, *, min_examples: int = 1) -> IntArray:
    r"""CPD's difficulty-calibrated scheduling: the mean difficulty rises by equal amounts.

    .. math:: k_e = \min\{k : \bar L(k) \ge \tfrac{e}{n}\,\bar L(N)\}

    Args:
        running_mean: mean difficulty of the k easiest examples for k = 1..N.
        num_stages: n.
        min_examples: no stage is smaller than this (or than N); the formula alone may give one
            example. The compiler passes the batch size.

    Returns:
        Subset sizes, shape ``[n]``; the last one is N whatever rounding says.

    Raises:
        ConfigError: the mean difficulty is not positive, so that shares of it mean nothing.

    References:
        Zhang and Liu, Calibrated Progressive Distillation, Findings of ACL 2026, section 3.2.
    """
    if running_mean[-1] <= 0 and num_stages > 1:
        raise ConfigError(
            f"Calibrated pacing needs a difficulty with a positive mean; this one has"
            f" {running_mean[-1]:.4g}. It takes equal shares of the mean, so the difficulty must be"
            " a ratio scale such as cross-entropy. Use baby_steps or linear_growth instead."
        )
    # A few ulps of slack: k whose mean equals the target up to rounding does meet it.
    targets = calibrated_targets(running_mean, num_stages) * (1 - 4 * np.finfo(np.float64).eps)
    sizes = np.searchsorted(running_mean, targets, side="left") + 1
    return _finish(np.maximum(sizes, min_examples), len(running_mean))


def baby_steps(running_mean: FloatArray, num_stages: int) -> IntArray:
    r"""Prefixes of equal growth, :math:`e \lfloor N/n \rfloor`, the last one whole (POCL).

    Args:
        running_mean: only its length is used.
        num_stages: n.

    Returns:
        Subset sizes, shape ``[n]``.

    References:
        Liu and Zhang, Being Strong Progressively (POCL), 2025, arXiv:2506.05695.
    """
    step = max(len(running_mean) // num_stages, 1)
    return _finish(step * np.arange(1, num_stages + 1), len(running_mean))


def linear_growth(running_mean: FloatArray, num_stages: int) -> IntArray:
    r"""Sizes on a straight line: :math:`\lfloor e N / n \rfloor` (CPD's comparison "LS").

    Args:
        running_mean: only its length is used.
        num_stages: n.

    Returns:
        Subset sizes, shape ``[n]``.

    References:
        Zhang and Liu, Calibrated Progressive Distillation, Findings of ACL 2026, section 6.3.
    """
    num_examples = len(running_mean)
    return _finish(np.arange(1, num_stages + 1) * num_examples // num_stages, num_examples)


def cosine_growth(running_mean: FloatArray, num_stages: int) -> IntArray:
    r"""Sizes on a cosine: :math:`\lfloor N (1 - \cos(\pi e / n)) / 2 \rfloor` (CPD's "CS").

    CPD does not print its formula; this is the usual half wave.

    Args:
        running_mean: only its length is used.
        num_stages: n.

    Returns:
        Subset sizes, shape ``[n]``.

    References:
        Zhang and Liu, Calibrated Progressive Distillation, Findings of ACL 2026, section 6.3.
    """
    num_examples = len(running_mean)
    shares = [(1 - math.cos(math.pi * e / num_stages)) / 2 for e in range(1, num_stages + 1)]
    return _finish(np.floor(np.asarray(shares) * num_examples + 1e-9).astype(int), num_examples)


def everything(running_mean: FloatArray, num_stages: int) -> IntArray:
    """All examples in every stage: the plain run.

    Args:
        running_mean: only its length is used.
        num_stages: n.

    Returns:
        Subset sizes, shape ``[n]``, all N.
    """
    return np.full(num_stages, len(running_mean), dtype=np.int64)
