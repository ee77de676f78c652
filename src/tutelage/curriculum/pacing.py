"""Pacing: how much of the data each stage uses. Pure functions of the difficulty profile.

A pacing function takes the running mean of the sorted difficulties (shape ``[N]``, float64, never
falling) and the number of stages, and gives one size for each stage, shape ``[n]``, int64, between
1 and N. For growing curricula sizes never fall and the last one is N; for ``bands`` they say where
each band ends; ``shrinking`` falls. What a size means is the business of ``subsets``.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import ConfigError, unknown_name

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


def anchored_targets(running_mean: FloatArray, num_stages: int) -> FloatArray:
    r"""Mean difficulties that rise evenly from the easiest example's, shape ``[n]``.

    .. math:: \bar L(1) + \tfrac{e}{n}\,(\bar L(N) - \bar L(1))
    """
    shares = np.arange(1, num_stages + 1) / num_stages
    return running_mean[0] + shares * (running_mean[-1] - running_mean[0])


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
    return _reach(running_mean, calibrated_targets(running_mean, num_stages), min_examples)


def calibrated_anchored(
    running_mean: FloatArray, num_stages: int, *, min_examples: int = 1
) -> IntArray:
    r"""Calibrated scheduling that starts from the easiest example's difficulty, not from 0.

    .. math:: k_e = \min\{k : \bar L(k) \ge \bar L(1) + \tfrac{e}{n}(\bar L(N) - \bar L(1))\}

    CPD's own targets begin near 0, below every example, so its first stages may all be as small as
    they can be; and adding a constant to the difficulty changes them. These do not depend on where
    the scale has its zero, so any score will do.

    Args:
        running_mean: mean difficulty of the k easiest examples for k = 1..N.
        num_stages: n.
        min_examples: no stage is smaller than this (or than N).

    Returns:
        Subset sizes, shape ``[n]``.

    References:
        Ours, after Zhang and Liu, Calibrated Progressive Distillation, 2026, section 3.2.
    """
    return _reach(running_mean, anchored_targets(running_mean, num_stages), min_examples)


def _reach(running_mean: FloatArray, targets: FloatArray, min_examples: int) -> IntArray:
    """The smallest prefixes whose mean reaches the targets."""
    # A few ulps of slack: k whose mean equals the target up to rounding does meet it.
    slack = 4 * np.finfo(np.float64).eps * np.abs(targets)
    sizes = np.searchsorted(running_mean, targets - slack, side="left") + 1
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


def cosine_growth(running_mean: FloatArray, num_stages: int, *, start: float = 0.7) -> IntArray:
    r"""Sizes on half a cosine wave from ``start`` to everything (CPD's comparison "CS").

    .. math:: \lfloor N\,(s + (1 - s)(1 - \cos(\pi\tfrac{e - 1}{n - 1})) / 2) \rfloor

    CPD prints no formula but the number of updates, 85 % of the plain run's. A wave from 0 makes
    52.5 %, as linear growth does; this one makes 85 % with s = 0.7. That number is our guess.

    Args:
        running_mean: only its length is used.
        num_stages: n.
        start: s, share of the data in the first stage, in [0, 1]; a stage has one example at least.

    Returns:
        Subset sizes, shape ``[n]``.

    Raises:
        ConfigError: ``start`` lies outside [0, 1].

    References:
        Zhang and Liu, Calibrated Progressive Distillation, Findings of ACL 2026, section 6.3.
    """
    if not 0.0 <= start <= 1.0:
        raise ConfigError(f"`start` of cosine_growth must lie in [0, 1], got {start}.")
    num_examples = len(running_mean)
    x = np.arange(num_stages) / max(num_stages - 1, 1)
    shares = start + (1.0 - start) * (1.0 - np.cos(np.pi * x)) / 2
    return _finish(np.floor(shares * num_examples + 1e-9).astype(int), num_examples)


def everything(running_mean: FloatArray, num_stages: int) -> IntArray:
    """All examples in every stage: the plain run.

    Args:
        running_mean: only its length is used.
        num_stages: n.

    Returns:
        Subset sizes, shape ``[n]``, all N.
    """
    return np.full(num_stages, len(running_mean), dtype=np.int64)


def bands(
    running_mean: FloatArray, num_stages: int, *, shares: Sequence[float] | None = None
) -> IntArray:
    """Where the bands of a disjoint (or cumulative) partition end, counted from the easy side.

    Args:
        running_mean: only its length is used.
        num_stages: n.
        shares: part of the data in each band; None for equal bands. They belong to the bands of
            difficulty, from the easiest to the hardest, in whichever order stages visit them.

    Returns:
        End of each band, shape ``[n]``; the last one is N, and every band has an example while
        there are at least n.

    Raises:
        ConfigError: ``shares`` has another length than n, or holds a number that is not positive.

    References:
        Cao et al., CLPD, 2026, arXiv:2605.11260 (its Figure 2 compares shares).
    """
    parts = np.ones(num_stages) if shares is None else np.asarray(shares, dtype=np.float64)
    if parts.shape != (num_stages,) or not (np.isfinite(parts) & (parts > 0)).all():
        raise ConfigError(
            f"`shares` needs one positive number for each of the {num_stages} stages, got"
            f" {list(parts.tolist())}. Set curriculum.stages to the number of shares."
        )
    num_examples = len(running_mean)
    ends = np.round(np.cumsum(parts) / parts.sum() * num_examples).astype(np.int64)
    # Every band keeps one example at least, where there are enough of them: ends rise strictly, and
    # leave room for the bands that follow.
    number = np.arange(num_stages)
    ends = np.maximum.accumulate(np.maximum(ends, 1) - number) + number
    return _finish(np.minimum(ends, num_examples - number[::-1]), num_examples)


def shrinking(
    running_mean: FloatArray, num_stages: int, *, decay: Literal["cosine", "linear"] = "cosine"
) -> IntArray:
    r"""DA-KD's falling subset: :math:`r_e N` with e from 0.

    .. math:: r_e = \tfrac12\cos(\pi e / n) + \tfrac12 \quad\text{or}\quad r_e = 1 - e / n

    Args:
        running_mean: only its length is used.
        num_stages: n, DA-KD's epochs.
        decay: ``"cosine"`` (DA-KD's default) or ``"linear"`` (CPD's runs of it).

    Returns:
        Subset sizes, shape ``[n]``: everything first, then less and less.

    Raises:
        ConfigError: ``decay`` is neither.

    References:
        He et al., DA-KD, ICML 2025, PMLR 267.
    """
    if decay not in ("cosine", "linear"):
        raise unknown_name("decay", decay, ("cosine", "linear"))
    x = np.arange(num_stages) / num_stages
    shares = 1 - x if decay == "linear" else (np.cos(np.pi * x) + 1) / 2
    num_examples = len(running_mean)
    return np.clip(np.round(shares * num_examples), 1, num_examples).astype(np.int64)
