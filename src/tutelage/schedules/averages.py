"""How much the newest weights count in an average over training. Pure: numbers in, a number out."""

from typing import Annotated

from tutelage.components import Component, Limits


def mean(
    step: int, total_steps: int, count: int, *, share: Annotated[float, Limits(0, 1)] = 0.25
) -> float | None:
    """The plain mean over the last part of the steps.

    Args:
        step: the step just made, from 0.
        total_steps: of the plan.
        count: how many weights are in the average so far.
        share: part of the steps that is averaged; the last step always is.

    Returns:
        1 / (count + 1); None before that part begins.

    References:
        Izmailov et al., Averaging Weights Leads to Wider Optima, UAI 2018, arXiv:1803.05407.
    """
    averaged = max(round(share * total_steps), 1)
    return None if step < total_steps - averaged else 1.0 / (count + 1)


def ema(
    step: int, total_steps: int, count: int, *, decay: Annotated[float, Limits(0, 1, True)] = 0.99
) -> float | None:
    r"""An exponential moving average, which forgets the weights of long ago.

    .. math:: \max\big(1 - d,\; 1 / (c + 1)\big)

    It begins as the plain mean, until that is as long as the average remembers: the untrained
    weights have no weight of their own in it.

    Args:
        step: the step just made, from 0.
        total_steps: of the plan.
        count: how many weights are in the average so far.
        decay: d, what stays of the average at a step; it remembers about 1 / (1 - d) steps.

    Returns:
        The weight of the newest weights.

    References:
        Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992.
    """
    return max(1.0 - decay, 1.0 / (count + 1))


AVERAGES: dict[str, Component] = {
    "mean": Component(
        mean, "the mean over the last part of the steps", "Izmailov et al. 2018, arXiv:1803.05407"
    ),
    "ema": Component(
        ema, "an exponential moving average over all steps", "Polyak and Juditsky 1992"
    ),
}
"""Averages of the weights by name; `tutelage ls averages` prints them."""
