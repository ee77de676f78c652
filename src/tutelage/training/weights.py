"""What the rows of a step count: of how many tokens, and how much each of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.training.importance import with_mean_one
from tutelage.types import Plan

Batch = dict[str, Any]


def count_learned(batches: Sequence[Batch], device: torch.device) -> Tensor:
    """Response tokens of some micro-batches."""
    count = torch.zeros((), dtype=torch.int64, device=device)
    for batch in batches:
        count += tokens_of_rows(batch).sum().to(device)
    return count


def tokens_of_rows(batch: Mapping[str, Any]) -> Tensor:
    """Response tokens of each row, shape ``[B]``."""
    return (batch["labels"][:, 1:] != -100).sum(1)


def weighed(
    batches: list[Batch],
    plan: Plan,
    over_processes: Callable[[Tensor], Tensor],
    device: torch.device,
) -> list[Batch]:
    """The micro-batches of a step, each row with what its example counts there.

    The weights of a step are scaled so that their mean over its response tokens is 1, on all
    processes together: its loss is a weighted mean over tokens. What tokens counted before counts
    as well.

    Args:
        batches: of this process in one step.
        plan: the plan.
        over_processes: gives the sum of a tensor over all processes.
        device: where they add up.
    """
    by_id = plan.weights_of(batches[0]["step"])
    if not by_id:
        return batches
    found = []
    for batch in batches:
        ids = batch["ids"]  # a filler has none
        tokens = tokens_of_rows(batch).tolist()[: len(ids)]
        rows = [torch.full((n,), by_id[i]).double() for i, n in zip(ids, tokens, strict=True)]
        if "weights" in batch:
            rows = [one * other for one, other in zip(rows, batch["weights"], strict=True)]
        found.append({**batch, "weights": rows})
    return with_mean_one(found, over_processes, device)
