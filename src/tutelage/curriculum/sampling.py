"""Sampling: which examples a stage visits, in which order, cut into steps. Pure and seeded."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.curriculum.draws import drawn

IntArray = NDArray[np.integer]
THREADS = 4
Remainder = Literal["carry", "trim", "partial", "drop"]
REMAINDERS: dict[str, str] = {
    "carry": "what does not fill a batch opens the next stage; only the last step is short",
    "trim": "as carry, and the short batch at the very end is left out",
    "partial": "each stage ends with a short batch",
    "drop": "each pass leaves out what does not fill a batch, as data loaders that drop the last",
}
CARRYING = ("carry", "trim")


def pass_lengths(subset_size: int, num_visits: int, whole: int | None = None) -> list[int]:
    """How many visits each pass over a subset makes: all of it, and a broken rest in the last.

    Args:
        subset_size: number of examples.
        num_visits: how many visits to make.
        whole: cut every pass to a multiple of this batch size (a stage keeps one visit at least).

    Returns:
        Lengths that add up to ``num_visits``, or to less with ``whole``.
    """
    lengths = _divided(num_visits, subset_size)
    if whole is not None and num_visits >= whole and subset_size >= whole:
        lengths = [length // whole * whole for length in lengths]
    return lengths


def pass_lengths_made(subset_size: int, num_visits: int, whole: int | None = None) -> list[int]:
    """The same for visits of which all are made: lengths that add up to ``num_visits``."""
    longest = subset_size if whole is None or subset_size < whole else subset_size // whole * whole
    return _divided(num_visits, longest)


def _divided(number: int, part: int) -> list[int]:
    full, rest = divmod(number, part)
    return [part] * full + [rest] * (rest > 0)


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
    visits_by_stage: Sequence[int],
    batch_size: int,
    remainder: Remainder,
    first_stage: int = 1,
    carried: int = 0,
) -> Cut:
    """Cut the visits of all stages into batches.

    Args:
        visits_by_stage: number of visits of each stage, in order.
        batch_size: examples of a full step.
        remainder: what happens to visits that do not fill a batch; see ``REMAINDERS``. Every stage
            that has visits has at least one step.
        first_stage: number of the first of these stages.
        carried: visits of the stages before that wait for a full batch.
    """
    used: list[int] = []
    sizes: list[NDArray[np.int64]] = []
    step_stage: list[NDArray[np.int64]] = []
    pending = carried
    carries = remainder in CARRYING
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


def cut_again(
    offsets: NDArray[np.int64],
    carried: int,
    visits_by_stage: Sequence[int],
    *,
    carries: bool,
    first_stage: int,
) -> Cut:
    """Share out the steps that a plan has left among stages that were measured anew.

    Steps stay as they are: as many, each with as many visits. Only where one stage ends and the
    next begins is new, in proportion to what the stages ask for. Where they ask for what the plan
    gave them, they get exactly that.

    Args:
        offsets: of the steps that are left, from 0, shape ``[S + 1]``.
        carried: how many visits at their beginning still belong to a stage that is done.
        visits_by_stage: how many visits each stage asks for.
        carries: whether a stage may end within a step, which then belongs to the next stage.
        first_stage: number of the first of these stages.
    """
    total, count = len(offsets) - 1, len(visits_by_stage)
    assert count <= total, "a plan has a step for each of its stages"
    wanted = np.cumsum(visits_by_stage, dtype=np.float64)
    ends = carried + wanted * ((int(offsets[-1]) - carried) / wanted[-1])
    if carries:
        steps = np.searchsorted(offsets, ends + 1e-6, side="right") - 1
    else:
        steps = np.searchsorted((offsets[1:] + offsets[:-1]) / 2, ends, side="left")
    # Every stage has a step, and leaves one for each of those that follow.
    number = np.arange(1, count + 1)
    steps = np.maximum.accumulate(np.maximum(steps, 1) - number) + number
    steps = np.minimum(steps, total - count + number)
    steps[-1] = total
    visits = offsets[steps]
    if carries:
        most = np.append(offsets[1:], offsets[-1] + 1)[steps] - 1
        visits = np.clip(np.round(ends).astype(np.int64), visits, most)
    return Cut(
        np.diff(visits, prepend=carried).tolist(),
        offsets,
        np.repeat(np.arange(first_stage, first_stage + count), np.diff(steps, prepend=0)),
    )


def shuffled_visits(
    subsets: Sequence[IntArray],
    passes: Sequence[Sequence[int]],
    used: Sequence[int],
    *,
    weights: Sequence[NDArray[np.float64] | None],
    seed: int,
    first_stage: int = 1,
) -> IntArray:
    """Visit the subset of each stage in shuffled passes.

    Each pass is shuffled by itself; one that is broken off is a random part of a whole pass, so no
    example is visited twice more often than another within a stage. With weights each pass is a
    draw by itself, as long as the pass; see ``draws.drawn``.

    Args:
        subsets: positions of the examples of each stage.
        passes: see ``pass_lengths``.
        used: how many of its visits each stage keeps.
        weights: how often each stage visits its examples; None: all alike.
        seed: seed of the plan; stages and passes draw from streams of their own.
        first_stage: number of the first of these stages.

    Returns:
        Positions in the order of training, shape ``[sum(used)]``.
    """
    visits = np.empty(sum(used), dtype=subsets[0].dtype)

    def fill(task: tuple[int, int, int, IntArray]) -> None:
        stage, number, start, out = task
        rng, chance = np.random.default_rng([seed, stage, number]), weights[start]
        if chance is not None:
            out[:] = drawn(subsets[start], chance, len(out), rng)
        else:
            out[:] = rng.permutation(subsets[start])[: len(out)]

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
