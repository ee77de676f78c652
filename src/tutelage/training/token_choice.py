"""Learning from some of the tokens alone: the head looks at all of them, the loss at the chosen.

The scores take one more pass over the student's head, without gradients and not over the model; the
loss, and the teacher's head where a score does not ask it, then see the chosen tokens alone. With a
fifth of the tokens both passes together are about half of the loss on all of them.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tutelage.models.head import logit_transform
from tutelage.models.projection import projection
from tutelage.numerics import as_float
from tutelage.targets.tokens import highest
from tutelage.teachers import TeacherSignal, TeacherTile
from tutelage.training.loss import DistillLoss
from tutelage.training.tiles import block_rows, block_threads, tile_rows

# Shape suffixes: B rows, N response tokens, n tokens of a tile, V vocabulary, H hidden.

Score = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]


@dataclass(frozen=True)
class ChosenTokens:
    """Which response tokens are learned from.

    Attributes:
        score: see ``targets.tokens``; at temperature 1.
        needs_teacher: whether it asks the teacher.
        distill: the loss, for its sizes.
    """

    score: Score
    needs_teacher: bool
    distill: DistillLoss

    @torch.no_grad()
    def __call__(
        self,
        student: nn.Module,
        hidden_NH: Tensor,
        counts_B: Tensor,
        share: float,
        teacher: TeacherSignal | None,
        teacher_hidden_NH: Tensor | None,
    ) -> Tensor:
        """Places of the chosen tokens, in reading order.

        Args:
            student: the student; its head makes the logits.
            hidden_NH: its hidden states that predict the response tokens.
            counts_B: response tokens of each row.
            share: of each row's tokens that is chosen.
            teacher: where the teacher's logits come from.
            teacher_hidden_NH: the teacher's hidden states at the same positions.
        """
        loss = self.distill
        head = projection(student, loss.vocab_size, loss.autocast_dtype)
        row_bytes = 4 * (1 + self.needs_teacher) * loss.vocab_size
        tile_tokens = loss.tile_tokens or tile_rows(len(hidden_NH), row_bytes, loss.tile_bytes)
        tiles = None
        if self.needs_teacher:
            assert teacher is not None and teacher_hidden_NH is not None
            tiles = iter(teacher.tiles(teacher_hidden_NH, tile_tokens))
        step = loss.block_tokens or block_rows(hidden_NH.device, loss.vocab_size)
        transform = logit_transform(student)
        found: list[Tensor] = []

        def block(logits_nV: Tensor, tile: TeacherTile | None, start: int) -> Tensor:
            rows = slice(start, min(start + step, len(logits_nV)))
            with torch.no_grad():  # threads have a setting of their own
                logp = transform(as_float(logits_nV[rows])).log_softmax(-1)
                if tile is None:
                    return self.score(logp, None, None)
                kept = None if tile.kept_nK is None else tile.kept_nK[rows]
                return self.score(logp, tile.log_probs(rows, 1.0), kept)

        with block_threads(hidden_NH.device) as pool:
            for hidden_nH in hidden_NH.split(tile_tokens):
                logits_nV = head.logits(hidden_nH)
                one = functools.partial(block, logits_nV, None if tiles is None else next(tiles))
                blocks = range(0, len(logits_nV), step)
                found += map(one, blocks) if pool is None else pool.map(one, blocks)
        scores_N = torch.cat(found) if found else hidden_NH.new_empty(0)
        return highest(scores_N, counts_B, share)
