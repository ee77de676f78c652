"""From the plan's steps to micro-batches, for any number of processes and accumulation steps."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from tutelage.data.collate import collate
from tutelage.data.lengths import count_tokens
from tutelage.errors import DataError
from tutelage.ids import Ids
from tutelage.types import Plan

Visit = tuple[int, int, int]
"""Row of the data set (-1 for a filler), step of the plan, and number of the visit in that step
(all from 0)."""


class PlannedRows(Dataset):
    """The data set, read by visits; each item also knows its step, its place in it and its id."""

    def __init__(self, rows: Any, ids: Sequence[str]) -> None:
        self.rows = rows.select_columns(["input_ids", "labels"])
        self.ids = ids

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, visit: Visit) -> tuple[int, Mapping[str, Any] | None]:
        """The step, and the row or None for a filler."""
        row, step, place = visit
        return step, None if row < 0 else {**self.rows[row], "id": self.ids[row], "place": place}


class PlanSampler(Sampler[list[Visit]]):
    """Micro-batches of one process, in the order of the plan.

    Every optimizer step is cut into ``accumulation * num_processes`` micro-batches of equal size,
    as near as may be. Within a step the examples are sorted by length, so that rows of a
    micro-batch need little padding; the sum over the step does not depend on it. A step too small
    to fill all micro-batches gets fillers, which have no response token and so weigh nothing.

    Args:
        plan: the plan.
        rows: row of the data set for each teacher and position in ``plan.ids``, shape ``[K, N]``.
        lengths: tokens of each row of the data set.
        accumulation: micro-batches of a step on each process.
        num_processes: number of processes.
        process_index: which of them this is.
    """

    def __init__(
        self,
        plan: Plan,
        rows: NDArray[np.int64],
        lengths: NDArray[np.int64],
        accumulation: int,
        num_processes: int = 1,
        process_index: int = 0,
    ) -> None:
        self.plan = plan
        self.rows = rows
        self.lengths = lengths
        self.accumulation = accumulation
        self.num_processes = num_processes
        self.process_index = process_index

    def __len__(self) -> int:
        return self.plan.total_steps * self.accumulation

    def __iter__(self) -> Iterator[list[Visit]]:
        for step in range(self.plan.total_steps):
            span = slice(self.plan.offsets[step], self.plan.offsets[step + 1])
            rows = self.rows[self.plan.visit_teacher[span], self.plan.visits[span]]
            assert (rows >= 0).all(), "the plan visits a pair that the data does not have"
            order = np.argsort(self.lengths[rows], kind="stable")
            parts = np.array_split(order, self.accumulation * self.num_processes)
            for part in parts[self.process_index :: self.num_processes]:
                visits = [(int(rows[place]), step, int(place)) for place in part]
                yield visits or [(-1, step, -1)]


def visits_loader(
    plan: Plan,
    rows: Any,
    ids: Sequence[str],
    writers: Sequence[str] | None,
    args: Any,
    pad_token_id: int,
) -> DataLoader:
    """Micro-batches of this process in the order of the plan, which know their step and ids.

    Args:
        plan: the plan.
        rows: the data set.
        ids: example id of each row.
        writers: see ``join_by_id``.
        args: ``TrainingArguments``.
        pad_token_id: fills the batches.
    """
    sampler = PlanSampler(
        plan,
        join_by_id(plan, ids, writers),
        count_tokens(rows),
        args.gradient_accumulation_steps,
        args.world_size,
        args.process_index,
    )
    collated = functools.partial(collate_visits, pad_token_id=pad_token_id)
    return planned_loader(PlannedRows(rows, ids), sampler, collated, args)


def planned_loader(
    rows: Any, batches: Sampler, collate_fn: Callable[[list[Any]], Any], args: Any
) -> DataLoader:
    """Micro-batches of this process; not to be prepared by accelerate, which would cut them again.

    Args:
        rows: what the batches name.
        batches: the micro-batches, in their order.
        collate_fn: makes tensors of the rows of one.
        args: ``TrainingArguments``.
    """
    return DataLoader(
        rows,
        batch_sampler=batches,
        collate_fn=collate_fn,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        # A loader draws a seed when iteration begins; not from the global stream, which a resumed
        # run restores before or after that, depending on the version of transformers.
        generator=torch.Generator().manual_seed(args.seed),
    )


def join_by_id(
    plan: Plan, ids: Sequence[str], writers: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Row of the data set for each teacher and position in ``plan.ids``; ids join, never positions.

    Args:
        plan: the plan.
        ids: example id of each row.
        writers: the teacher who wrote each row's answer; None when every teacher shares the rows.

    Returns:
        Shape ``[K, N]``; -1 where a teacher has no row for an example.

    Raises:
        DataError: the data lacks an example, or a pair of example and writer, that the plan visits.
    """
    rows = np.full((len(plan.teachers), len(plan.ids)), -1, dtype=np.int64)
    position = plan.ids.locate(Ids.of(ids))
    wrote = Ids.of(writers or ())
    known = np.flatnonzero(position >= 0)
    for number, name in enumerate(plan.teachers):
        here = known if writers is None else known[wrote.equal_to(name)[known]]
        # The last of several rows counts.
        rows[number, position[here]] = here
    # Where every pair has a row there is no need to look at the visits, which may be many more.
    lacking = (rows < 0).any()
    missing = plan.visits[rows[plan.visit_teacher, plan.visits] < 0] if lacking else plan.visits[:0]
    if len(missing):
        raise DataError(
            f"The plan names {len(np.unique(missing))} examples that the training data does not"
            f" have, for example '{plan.ids[int(missing.min())]}'. The plan was compiled from other"
            " data: compile it again."
        )
    return rows


def collate_visits(
    items: Sequence[tuple[int, Mapping[str, Any] | None]], pad_token_id: int
) -> dict[str, Any]:
    """One micro-batch: tensors, the step they belong to, ids of the rows and places in the step."""
    rows = [row for _, row in items]
    return {
        **collate(rows, pad_token_id),
        "step": items[0][0],
        "ids": [row["id"] for row in rows if row is not None],
        "places": [row["place"] for row in rows if row is not None],
    }
