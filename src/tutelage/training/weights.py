"""What the rows of a step count: of how many tokens, and how much each of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.devices import sent
from tutelage.targets.tokens import kept_counts
from tutelage.types import Plan

Batch = dict[str, Any]


def count_learned(batches: Sequence[Batch], device: torch.device, share: float = 1.0) -> Tensor:
    """Response tokens of some micro-batches, or so many of each row as are learned from.

    Args:
        batches: the micro-batches.
        device: where they add up.
        share: of the tokens of a row; see ``kept_counts``.
    """
    counts = [kept_counts(tokens_of_rows(batch), share).sum() for batch in batches]
    return sent(torch.stack(counts).sum(), device)


def tokens_of_rows(batch: Mapping[str, Any]) -> Tensor:
    """Response tokens of each row, shape ``[B]``."""
    return (batch["labels"][:, 1:] != -100).sum(1)


def weighed(
    batches: list[Batch],
    plan: Plan,
    over_processes: Callable[[Tensor], Tensor],
    device: torch.device,
) -> tuple[list[Batch], Tensor, Tensor]:
    """The micro-batches of a step, each row with what its example counts there, and their tokens.

    The weights of a step are scaled so that their mean over the tokens that it learns from is 1, on
    all processes together: its loss is a weighted mean over these. What tokens counted before
    counts as well (where some are chosen, by its mean over all of a row).

    Args:
        batches: of this process in one step.
        plan: the plan.
        over_processes: gives the sum of a tensor over all processes.
        device: where they add up.

    Returns:
        The micro-batches; the response tokens of the step and those that are learned from, over
        all processes, on the device.
    """
    step = batches[0]["step"]
    by_id, share = plan.weights_of(step), float(plan.token_share[step])
    tokens = over_processes(count_learned(batches, device))
    learned = tokens if share == 1.0 else over_processes(count_learned(batches, device, share))
    if not by_id:
        return batches, tokens, learned
    found, total, count = [], 0.0, 0
    for batch in batches:
        ids = batch["ids"]  # a filler has none
        counts = tokens_of_rows(batch)
        lengths, kept = counts.tolist()[: len(ids)], kept_counts(counts, share).tolist()
        rows = [torch.full((n,), by_id[i]).double() for i, n in zip(ids, lengths, strict=True)]
        if "weights" in batch:
            rows = [one * other for one, other in zip(rows, batch["weights"], strict=True)]
        total += sum(float(one.mean()) * n for one, n in zip(rows, kept, strict=False) if n)
        count += sum(kept)
        found.append({**batch, "weights": rows})
    sums = over_processes(torch.tensor([total, count], dtype=torch.float64, device=device))
    factor = float(sums[1] / sums[0]) if sums[0] > 0 else 1.0
    scaled = [
        {**batch, "weights": [(one * factor).float() for one in batch["weights"]]}
        for batch in found
    ]
    return scaled, tokens, learned
