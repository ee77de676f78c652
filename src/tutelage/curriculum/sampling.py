"""Sampling: which examples a stage visits, in which order, cut into steps. Pure and seeded."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer]
THREADS = 4
Remainder = Literal["carry", "trim", "partial", "drop"]
REMAINDERS: dict[str, str] = {
    "carry": "what does not fill a batch opens the next stage; only the last step is short",
    "trim": "as carry, and the short batch at the very end is left out",
    "partial": "each stage ends with a short batch",
    "drop": "each pass leaves out what does not fill a batch, as data loaders that drop the last",
}


def pass_lengths(subset_size: int, num_visits: int, whole: int | None = None) -> list[int]:
    """How many visits each pass over a subset makes: all of it, and a broken rest in the last.

    Args:
        subset_size: number of examples.
        num_visits: how many visits to make.
        whole: cut every pass to a multiple of this batch size (a stage keeps one visit at least).

    Returns:
        Lengths that add up to ``num_visits``, or to less with ``whole``.
    """
    full, rest = divmod(num_visits, subset_size)
    lengths = [subset_size] * full + [rest] * (rest > 0)
    if whole is not None and num_visits >= whole and subset_size >= whole:
        lengths = [length // whole * whole for length in lengths]
    return lengths


@dataclass(frozen=True)
class Cut:
    """How the visits of all stages are cut into steps.

    Attributes:
        used: how many of its visits each stage keeps, shape ``[n]``; with a carried remainder the
            last of them may be in a step of the next stage.
        offsets: step s has visits ``offsets[s]`` to ``offsets[s + 1]``, shape ``[S + 1]``.
        step_stage: stage of each step, from 1, shape ``[S]``.
    """

    used: list[int]
    offsets: NDArray[np.int64]
    step_stage: NDArray[np.int64]


def cut_into_steps(
    visits_by_stage: Sequence[int], batch_size: int, remainder: Remainder, first_stage: int = 1
) -> Cut:
    """Cut the visits of all stages into batches.

    Args:
        visits_by_stage: number of visits of each stage, in order.
        batch_size: examples of a full step.
        remainder: what happens to visits that do not fill a batch; see ``REMAINDERS``. Every stage
            that has visits has at least one step.
        first_stage: number of the first of these stages.
    """
    used: list[int] = []
    sizes: list[NDArray[np.int64]] = []
    step_stage: list[NDArray[np.int64]] = []
    pending = 0  # visits of the stages before that wait for a full batch
    carries = remainder in ("carry", "trim")
    last = first_stage + len(visits_by_stage) - 1
    for number, new in enumerate(visits_by_stage, start=first_stage):
        full, rest = divmod(pending + new, batch_size)
        keep_rest = rest > 0 and (
            remainder == "partial" or full == 0 or (number == last and remainder == "carry")
        )
        left = 0 if keep_rest else rest
        dropped = left if not carries or number == last else 0
        used.append(new - dropped)
        pending = left - dropped
        sizes.append(np.asarray([batch_size] * full + [rest] * keep_rest, dtype=np.int64))
        step_stage.append(np.full(full + keep_rest, number, dtype=np.int64))
    offsets = np.cumsum(np.concatenate([[0], *sizes]), dtype=np.int64)
    return Cut(used, offsets, np.concatenate(step_stage))


def shuffled_visits(
    subsets: Sequence[IntArray],
    passes: Sequence[Sequence[int]],
    used: Sequence[int],
    *,
    seed: int,
    first_stage: int = 1,
) -> IntArray:
    """Visit the subset of each stage in shuffled passes.

    Each pass is shuffled by itself; one that is broken off is a random part of a whole pass, so no
    example is visited twice more often than another within a stage.

    Args:
        subsets: positions of the examples of each stage.
        passes: see ``pass_lengths``.
        used: how many of its visits each stage keeps.
        seed: seed of the plan; stages and passes draw from streams of their own.
        first_stage: number of the first of these stages.

    Returns:
        Positions in the order of training, shape ``[sum(used)]``.
    """
    visits = np.empty(sum(used), dtype=subsets[0].dtype)

    def fill(task: tuple[int, int, int, IntArray]) -> None:
        stage, number, start, out = task
        whole = np.random.default_rng([seed, stage, number]).permutation(subsets[start])
        out[:] = whole[: len(out)]

    tasks = []
    end = 0
    for index, lengths in enumerate(passes):
        start, end = end, end + used[index]
        for number, length in enumerate(lengths):
            stop = min(start + length, end)
            tasks.append((first_stage + index, number, index, visits[start:stop]))
            start = stop
    # Shuffling lets go of the interpreter's lock. Every pass being worked on is a copy of a subset.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, THREADS)) as pool:
        list(pool.map(fill, tasks))
    return visits
