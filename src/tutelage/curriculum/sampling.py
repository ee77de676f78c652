"""Sampling: which examples a stage visits, in which order, cut into steps. Pure and seeded."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Remainder = Literal["carry", "partial", "drop"]
REMAINDERS: dict[str, str] = {
    "carry": "what does not fill a batch opens the next stage; only the last step is short",
    "partial": "each stage ends with a short batch",
    "drop": "what does not fill a batch is left out, unless the stage would have no step",
}


def stage_visits(subset: IntArray, num_visits: int, *, seed: int, stage: int) -> IntArray:
    """Visit a subset in shuffled passes until ``num_visits`` is reached.

    Whole passes come first, each shuffled by itself; a broken rest is a random part of one more
    pass, so no example is visited twice more often than another within a stage.

    Args:
        subset: positions of the examples.
        num_visits: how many visits to make.
        seed: seed of the plan.
        stage: number of the stage; stages and passes draw from streams of their own.

    Returns:
        Positions, shape ``[num_visits]``.
    """
    num_passes = -(-num_visits // len(subset))
    passes = [
        np.random.default_rng([seed, stage, number]).permutation(subset)
        for number in range(num_passes)
    ]
    visits = np.concatenate(passes) if passes else np.empty(0, dtype=np.int64)
    return visits[:num_visits].astype(np.int64)


def cut_into_steps(
    visits_by_stage: list[IntArray], batch_size: int, remainder: Remainder
) -> tuple[IntArray, IntArray, IntArray]:
    """Cut the visits of all stages into batches.

    Args:
        visits_by_stage: visits of each stage, in order.
        batch_size: examples of a full step.
        remainder: what happens to visits that do not fill a batch; see ``REMAINDERS``. Every stage
            that has visits has at least one step.

    Returns:
        ``visits`` (shape ``[M]``), ``offsets`` (``[S + 1]``), and ``step_stage`` (``[S]``, from 1).
    """
    kept: list[IntArray] = []
    sizes: list[int] = []
    step_stage: list[int] = []
    pending = np.empty(0, dtype=np.int64)
    for number, new in enumerate(visits_by_stage, start=1):
        stream = np.concatenate([pending, new])
        full, rest = divmod(len(stream), batch_size)
        is_last = number == len(visits_by_stage)
        keep_rest = rest > 0 and (
            remainder == "partial" or full == 0 or (remainder == "carry" and is_last)
        )
        used = len(stream) if keep_rest else full * batch_size
        pending = stream[used:] if remainder == "carry" else pending
        kept.append(stream[:used])
        sizes += [batch_size] * full + [rest] * keep_rest
        step_stage += [number] * (full + keep_rest)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return np.concatenate(kept), offsets, np.asarray(step_stage, dtype=np.int64)
