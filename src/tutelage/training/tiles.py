"""Walking over tiles and blocks of tokens, so that no array of all tokens is ever made.

Two sizes, for two reasons. A tile is as large as the memory budget allows, because matrix products
are fast when they have many rows. A block is a few rows of a tile, so that all that is done element
by element (softmax, target, divergence, gradients) stays in the processor's cache.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.models.head import LogitTransform
from tutelage.models.projection import Projection
from tutelage.teachers import TeacherTile

# Shape suffixes: N response tokens, n tokens of a tile, r tokens of a block, H hidden,
# V vocabulary, K kept tokens.

TILE_BYTES = 1 << 28
"""Memory for the logits of a tile, of student and teacher together."""

FEWEST, MOST = 16, 1024
"""Tokens of a tile, whatever the budget says: fewer waste time, more gain none."""

CORE_ELEMENTS = 3 << 17
"""Elements of a block for each thread of a CPU; about ten such arrays are alive at a time."""

DEVICE_ELEMENTS = 1 << 25
"""Elements of a block elsewhere: launching its kernels must cost little beside running them."""


def tile_rows(tokens: int, row_bytes: int, budget: int = TILE_BYTES) -> int:
    """Tokens of a tile: what the budget holds, the same for all tiles but for rounding.

    Args:
        tokens: how many there are.
        row_bytes: bytes of one token's logits, of both models.
        budget: bytes for a tile.
    """
    most = min(max(budget // max(row_bytes, 1), FEWEST), MOST)
    tiles = max(1, -(-tokens // most))
    return max(1, -(-tokens // tiles))


def block_rows(device: torch.device, vocab: int) -> int:
    """Tokens of a block; on a CPU as many for each thread, since a softmax is cut by rows."""
    if device.type != "cpu":
        return max(1, DEVICE_ELEMENTS // vocab)
    return torch.get_num_threads() * max(1, CORE_ELEMENTS // vocab)


@dataclass(frozen=True)
class Block:
    """The tokens of a block as their loss sees them.

    Attributes:
        logits_rV: the student's own logits, in float32 or better.
        targets_r: the response tokens.
        teacher: what the teacher predicts for them (and their tile), and which rows they are.
    """

    logits_rV: Tensor
    targets_r: Tensor
    teacher: tuple[TeacherTile, slice] | None


BlockSums = Callable[[Block], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TiledSum:
    """The sum of a loss over all tokens, and its gradients, made at once.

    Attributes:
        head: the student's linear map; it keeps the gradients of its parameters.
        transform: what the student does to its logits after that.
        targets_N: the response tokens.
        sums: loss and parts of a block, from logits.
        teacher_tiles: what the teacher predicts, in tiles of ``tile_tokens``.
        tile_tokens: tokens of a tile.
        block_tokens: tokens of a block.
    """

    head: Projection
    transform: LogitTransform
    targets_N: Tensor
    sums: BlockSums
    teacher_tiles: Iterator[TeacherTile] | None
    tile_tokens: int
    block_tokens: int

    def run(self, hidden_NH: Tensor, hidden_grad_NH: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sum over all tokens; gradients are made when there is a place for that in the states.

        Args:
            hidden_NH: the student's hidden states.
            hidden_grad_NH: where their gradient is written; None for the value alone.

        Returns:
            The float64 sum of the loss, shape ``[]``, and of its parts, shape ``[5]``.
        """
        totals = torch.zeros(6, dtype=torch.float64, device=hidden_NH.device)
        for start in range(0, len(hidden_NH), self.tile_tokens):
            rows = slice(start, start + self.tile_tokens)
            hidden_nH = hidden_NH[rows]
            logits_nV = self.head.logits(hidden_nH)
            teacher = None if self.teacher_tiles is None else next(self.teacher_tiles)
            if hidden_grad_NH is None:
                self._blocks(logits_nV, rows.start, teacher, None, totals)
                continue
            gradient_nV = self.head.gradient_buffer(logits_nV)
            self._blocks(logits_nV, rows.start, teacher, gradient_nV, totals)
            hidden_grad_NH[rows] = self.head.backward(gradient_nV, hidden_nH)
        return totals[0], totals[1:]

    def _blocks(
        self,
        logits_nV: Tensor,
        first: int,
        teacher: TeacherTile | None,
        gradient_nV: Tensor | None,
        totals: Tensor,
    ) -> None:
        """Add the blocks of a tile to the totals; write the gradient in the raw logits."""
        for start in range(0, len(logits_nV), self.block_tokens):
            rows = slice(start, min(start + self.block_tokens, len(logits_nV)))
            with torch.set_grad_enabled(gradient_nV is not None):
                raw = logits_nV[rows].detach().requires_grad_(gradient_nV is not None)
                logits_rV = self.transform(raw if raw.dtype == torch.float64 else raw.float())
                block = Block(
                    logits_rV,
                    self.targets_N[first + rows.start : first + rows.stop],
                    None if teacher is None else (teacher, rows),
                )
                total, parts = self.sums(block)
            if gradient_nV is not None:
                # A loss that does not depend on the student (ce_weight 0, its share 1) has none.
                gradient_nV[rows] = (
                    torch.autograd.grad(total, raw)[0] if total.requires_grad else 0.0
                )
            totals[0] += total.detach()
            totals[1:] += parts


class GradientsAtOnce(torch.autograd.Function):
    """A sum whose gradients are made in the forward pass, and handed out in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, tiled: TiledSum, hidden_NH: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss, shape ``[]``, and parts, shape ``[5]``."""
        needs_grad = any(ctx.needs_input_grad)
        hidden_grad_NH = torch.empty_like(hidden_NH) if needs_grad else None
        total, parts = tiled.run(hidden_NH, hidden_grad_NH)
        ctx.mark_non_differentiable(parts)
        # Not by save_for_backward: these are no inputs or outputs, and are given away in backward.
        ctx.gradients = None if hidden_grad_NH is None else [hidden_grad_NH, *tiled.head.gradients]
        ctx.types = [hidden_NH.dtype, *(p.dtype for p in parameters)]
        return total if hidden_NH.dtype == torch.float64 else total.float(), parts

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, each times that of the loss."""
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError(
                "The gradients of this loss were already given away by an earlier backward pass."
                " Compute the loss again for another one."
            )
        # In place, and the last reference to each: a head's gradient may be half a gigabyte.
        scaled = [gradient.mul_(above[0].to(gradient.dtype)) for gradient in gradients]
        del gradients
        return (None, *(g.to(dtype) for g, dtype in zip(scaled, ctx.types, strict=True)))
