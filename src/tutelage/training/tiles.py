"""Walking over tiles and blocks of tokens, so that no array of all tokens is ever made.

Two sizes, for two reasons. A tile is as large as the memory budget allows, because matrix products
are fast when they have many rows. A block is a few rows of a tile, so that all that is done element
by element (softmax, target, divergence, gradients) stays in the processor's cache.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutelage.models.head import LogitTransform
from tutelage.models.projection import Projection
from tutelage.numerics import as_float
from tutelage.teachers import TeacherTile

# Shape suffixes: N response tokens, n tokens of a tile, r tokens of a block, H hidden,
# V vocabulary, K kept tokens.

TILE_BYTES = 1 << 29
"""Memory for the logits of a tile, of student and teacher together."""

FEWEST, MOST = 16, 512
"""Tokens of a tile, whatever the budget says: fewer waste time, more gain none."""

CORE_ELEMENTS = 1 << 19
"""Elements of a block on a CPU; about ten such arrays are alive at a time."""

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
    """Tokens of a block."""
    return max(1, (CORE_ELEMENTS if device.type == "cpu" else DEVICE_ELEMENTS) // vocab)


@contextlib.contextmanager
def block_threads(device: torch.device) -> Iterator[Executor | None]:
    """Threads that take whole blocks, each of them on one core; None where that is no use.

    Otherwise each of the many short operations would be cut over all cores, and all would wait for
    the slowest after each: on a machine that does something else too, that took ten times as long.
    """
    count = torch.get_num_threads()
    if device.type != "cpu" or count == 1:
        yield None
        return
    ready = threading.Barrier(count + 1)

    def on_one_core() -> None:
        torch.get_num_threads()  # a thread takes over the setting of the process at its first use
        torch.set_num_threads(1)
        ready.wait()

    with ThreadPoolExecutor(count) as pool:
        for _ in range(count):
            pool.submit(on_one_core)
        ready.wait()
        # Matrix products and new threads follow the last setting; those in the pool keep theirs.
        torch.set_num_threads(count)
        yield pool


@dataclass(frozen=True)
class Block:
    """The tokens of a block as their loss sees them.

    Attributes:
        logits_rV: the student's own logits, in float32 or better.
        targets_r: the response tokens.
        teacher: what the teacher predicts for them (and their tile), and which rows they are.
        weights_r: how much each of them counts; None for all alike.
        spent: whether nobody needs the logits afterwards, so that they may be overwritten.
    """

    logits_rV: Tensor
    targets_r: Tensor
    teacher: tuple[TeacherTile, slice] | None
    weights_r: Tensor | None = None
    spent: bool = False


BlockSums = Callable[[Block], tuple[Tensor, Tensor]]

BlockGradient = tuple[Tensor, Tensor, Tensor]
"""Loss and parts of a block, and the loss's gradient in the block's logits."""


@dataclass(frozen=True)
class TiledSum:
    """The sum of a loss over all tokens, and its gradients, made at once.

    Attributes:
        head: the student's linear map; it keeps the gradients of its parameters.
        transform: what the student does to its logits after that.
        targets_N: the response tokens.
        sums: loss and parts of a block, from logits.
        written: the same with its gradient, for blocks where that has a closed form (None for
            others); asked where logits are those of the linear map. None: autograd always.
        teacher_tiles: what the teacher predicts, in tiles of ``tile_tokens``.
        tile_tokens: tokens of a tile.
        block_tokens: tokens of a block.
        weights_N: how much each token counts; None for all alike.
        in_order: take one block after the other, because processes wait for each other in each.
    """

    head: Projection
    transform: LogitTransform
    targets_N: Tensor
    sums: BlockSums
    written: Callable[[Block], BlockGradient | None] | None
    teacher_tiles: Iterator[TeacherTile] | None
    tile_tokens: int
    block_tokens: int
    weights_N: Tensor | None = None
    in_order: bool = False

    def run(self, hidden_NH: Tensor, hidden_grad_NH: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sum over all tokens; gradients are made when there is a place for that in the states.

        Args:
            hidden_NH: the student's hidden states.
            hidden_grad_NH: where their gradient is written; None for the value alone.

        Returns:
            The float64 sum of the loss, shape ``[]``, and of its parts, shape ``[5]``.
        """
        totals = torch.zeros(6, dtype=torch.float64, device=hidden_NH.device)
        threads = contextlib.nullcontext() if self.in_order else block_threads(hidden_NH.device)
        with threads as pool:
            for start in range(0, len(hidden_NH), self.tile_tokens):
                rows = slice(start, start + self.tile_tokens)
                hidden_nH = hidden_NH[rows]
                logits_nV = self.head.logits(hidden_nH)
                teacher = None if self.teacher_tiles is None else next(self.teacher_tiles)
                gradient_nV = None
                if hidden_grad_NH is not None:
                    gradient_nV = self.head.gradient_buffer(logits_nV)
                weights_n = None if self.weights_N is None else self.weights_N[rows]
                tile = _Tile(logits_nV, self.targets_N[rows], teacher, gradient_nV, weights_n)
                blocks = range(0, len(logits_nV), self.block_tokens)
                one = functools.partial(self._block, tile)
                for found in map(one, blocks) if pool is None else pool.map(one, blocks):
                    totals += found
                if hidden_grad_NH is not None and gradient_nV is not None:
                    hidden_grad_NH[rows] = self.head.backward(gradient_nV, hidden_nH)
        # Not views of one array: autograd would not let anyone write to the parts.
        return totals[0].clone(), totals[1:].clone()

    @torch.no_grad()
    def _block(self, tile: "_Tile", start: int) -> Tensor:
        """Loss and parts of a block, shape ``[6]``; its gradient is written where the tile says."""
        rows = slice(start, min(start + self.block_tokens, len(tile.logits_nV)))
        wanted = tile.gradient_nV is not None
        teacher = None if tile.teacher is None else (tile.teacher, rows)
        weights_r = None if tile.weights_n is None else tile.weights_n[rows]
        if tile.gradient_nV is not None and self.written is not None and self.transform.is_identity:
            logits_rV = as_float(tile.logits_nV[rows])
            spent = logits_rV.data_ptr() == tile.gradient_nV[rows].data_ptr()
            made = self.written(Block(logits_rV, tile.targets_n[rows], teacher, weights_r, spent))
            if made is not None:
                total, parts, gradient_rV = made
                if gradient_rV is not logits_rV:
                    tile.gradient_nV[rows] = gradient_rV
                return torch.cat([total.unsqueeze(0), parts])
        with torch.set_grad_enabled(wanted):
            raw = tile.logits_nV[rows].detach().requires_grad_(wanted)
            logits_rV = self.transform(as_float(raw))
            total, parts = self.sums(Block(logits_rV, tile.targets_n[rows], teacher, weights_r))
        if tile.gradient_nV is not None:
            # A loss that does not depend on the student (ce_weight 0, its share 1) has none.
            found = torch.autograd.grad(total, raw)[0] if total.requires_grad else 0.0
            tile.gradient_nV[rows] = found
        return torch.cat([total.detach().double().unsqueeze(0), parts])


@dataclass(frozen=True)
class _Tile:
    """What the blocks of a tile share; each reads and writes its own rows.

    Attributes:
        logits_nV: what the head's linear map gave.
        targets_n: the response tokens.
        teacher: what the teacher predicts.
        gradient_nV: where the gradient is written, maybe over the logits; None for no gradient.
        weights_n: how much each token counts; None for all alike.
    """

    logits_nV: Tensor
    targets_n: Tensor
    teacher: TeacherTile | None
    gradient_nV: Tensor | None
    weights_n: Tensor | None


class GradientsAtOnce(torch.autograd.Function):
    """A sum whose gradients are made in the forward pass, and handed out in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, tiled: TiledSum, hidden_NH: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss, shape ``[]``, and parts, shape ``[5]``."""
        needs_grad = any(ctx.needs_input_grad)
        # In 16 bits only once it is whole and scaled.
        wide = as_float(hidden_NH.new_empty(0)).dtype
        hidden_grad_NH = torch.empty_like(hidden_NH, dtype=wide) if needs_grad else None
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
