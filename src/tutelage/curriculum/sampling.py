"""Sampling: which examples a stage visits, in which order, cut into steps. Pure and seeded."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
Remainder = Literal["carry", "trim", "partial", "drop"]
REMAINDERS: dict[str, str] = {
    "carry": "what does not fill a batch opens the next stage; only the last step is short",
    "trim": "as carry, and the short batch at the very end is left out",
    "partial": "each stage ends with a short batch",
    "drop": "each pass leaves out what does not fill a batch, as data loaders that drop the last",
}


def stage_visits(
    subset: IntArray, num_visits: int, *, seed: int, stage: int, whole: int | None = None
) -> IntArray:
    """Visit a subset in shuffled passes until ``num_visits`` is reached.

    Whole passes come first, each shuffled by itself; a broken rest is a random part of one more
    pass, so no example is visited twice more often than another within a stage.

    Args:
        subset: positions of the examples.
        num_visits: how many visits to make.
        seed: seed of the plan.
        stage: number of the stage; stages and passes draw from streams of their own.
        whole: cut every pass to a multiple of this batch size (a stage keeps one visit at least).

    Returns:
        Positions, shape ``[num_visits]``; fewer with ``whole``.
    """
    num_passes = -(-num_visits // len(subset))
    passes = [
        np.random.default_rng([seed, stage, number]).permutation(subset)
        for number in range(num_passes)
    ]
    if not passes:
        return np.empty(0, dtype=np.int64)
    passes[-1] = passes[-1][: num_visits - len(subset) * (num_passes - 1)]
    if whole is not None and num_visits >= whole and len(subset) >= whole:
        passes = [part[: len(part) // whole * whole] for part in passes]
    return np.concatenate(passes).astype(np.int64)


@dataclass(frozen=True)
class Steps:
    """Visits, cut into steps.

    Attributes:
        visits: positions in the order of training, shape ``[M]``.
        visit_stage: stage that each visit was planned in, from 1, shape ``[M]``; with a carried
            remainder the step that holds it may belong to the next one.
        offsets: step s has ``visits[offsets[s]:offsets[s + 1]]``, shape ``[S + 1]``.
        step_stage: stage of each step, from 1, shape ``[S]``.
    """

    visits: IntArray
    visit_stage: IntArray
    offsets: IntArray
    step_stage: IntArray


def cut_into_steps(
    visits_by_stage: list[IntArray], batch_size: int, remainder: Remainder, first_stage: int = 1
) -> Steps:
    """Cut the visits of all stages into batches.

    Args:
        visits_by_stage: visits of each stage, in order.
        batch_size: examples of a full step.
        remainder: what happens to visits that do not fill a batch; see ``REMAINDERS``. Every stage
            that has visits has at least one step.
        first_stage: number of the first of these stages.
    """
    kept: list[IntArray] = []
    sizes: list[int] = []
    step_stage: list[int] = []
    # Two rows: the positions, and the stage that each was planned in.
    pending = np.empty((2, 0), dtype=np.int64)
    carries = remainder in ("carry", "trim")
    last = first_stage + len(visits_by_stage) - 1
    for number, new in enumerate(visits_by_stage, start=first_stage):
        stream = np.hstack([pending, np.vstack([new, np.full_like(new, number)])])
        full, rest = divmod(stream.shape[1], batch_size)
        keep_rest = rest > 0 and (
            remainder == "partial" or full == 0 or (number == last and remainder == "carry")
        )
        used = stream.shape[1] if keep_rest else full * batch_size
        pending = stream[:, used:] if carries else pending
        kept.append(stream[:, :used])
        sizes += [batch_size] * full + [rest] * keep_rest
        step_stage += [number] * (full + keep_rest)
    visits, visit_stage = np.hstack(kept)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Steps(visits, visit_stage, offsets, np.asarray(step_stage, dtype=np.int64))
