r"""The loss where every process has its own tokens of the vocabulary: a head cut by rows.

Of the logits of a token, process i makes those of its slice S_i. What a loss needs of all of them
are sums over the vocabulary, so sums are what processes tell each other, never logits:

.. math:: \log q_v = z_v - \log \sum_i \sum_{u \in S_i} e^{z_u}, \qquad
          D(p\|q) = \sum_i \sum_{v \in S_i} d(p_v, q_v)

The second one holds for divergences that are a sum over tokens of the vocabulary, see
``SUMS_OVER_TOKENS``; others, and settings that rank or keep tokens, are refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from tutelage.divergences import DIVERGENCES
from tutelage.errors import ConfigError
from tutelage.models.head import LogitTransform
from tutelage.models.projection import LinearHead, LinearProjection
from tutelage.targets import probability_mix
from tutelage.teachers import TeacherTile
from tutelage.training.loss import KD_TOKENS, DistillLoss, LossSums, StepValues
from tutelage.training.tiles import Block, GradientsAtOnce, TiledSum
from tutelage.training.written_out import underlying

# Shape suffixes: N response tokens, r tokens of a block, H hidden, V vocabulary, W the tokens of
# this process.

SUMS_OVER_TOKENS = (
    "forward_kl", "reverse_kl", "symmetric_kl", "tvd", "hellinger", "jsd", "skl", "srkl",
    "alpha_beta", "bdl",
)  # fmt: skip
"""Divergences that are sums over the vocabulary; the contract of divergences holds them to it."""


@dataclass(frozen=True)
class VocabularySlice:
    """The tokens of one process.

    Attributes:
        head: their rows of the head's weight, ``[W, H]``, and of its bias.
        start: the first of them; rows beyond the loss's ``vocab_size`` are no tokens.
        group: the processes that have the vocabulary together; None for all. Each of them has the
            same tokens to learn from, in the same order.
    """

    head: LinearHead
    start: int
    group: Any = None


@dataclass(frozen=True)
class VocabularyParallelLoss:
    """A ``DistillLoss`` over a head of which each process has a slice of the rows.

    Value, parts and gradients are those of the loss over the whole head: every process is given the
    sums over all tokens of the vocabulary, the whole gradient of the hidden states, and its own
    rows of the gradient of the head.

    Attributes:
        loss: what is computed; ``vocab_size`` counts the tokens of all processes.

    Raises:
        ConfigError: the loss is no sum over the vocabulary.
    """

    loss: DistillLoss

    def __post_init__(self) -> None:
        loss = self.loss
        for divergence in filter(None, (loss.divergence, loss.second)):
            if not any(
                underlying(divergence) is DIVERGENCES[name].function for name in SUMS_OVER_TOKENS
            ):
                raise ConfigError(
                    "A vocabulary that is cut over processes needs a divergence that is a sum over"
                    f" tokens: one of {', '.join(SUMS_OVER_TOKENS)}."
                )
        if underlying(loss.target) is not probability_mix:
            raise ConfigError(
                "A vocabulary that is cut over processes needs the target `probability_mix`: others"
                " are normalised over all tokens."
            )
        kept = {"top_k": loss.top_k is not None, "target_entropy": loss.target_entropy}
        kept["ce_trust"] = loss.ce_trust != "all"
        for name in (name for name, is_set in kept.items() if is_set):
            raise ConfigError(
                f"`{name}` looks at all tokens of the vocabulary at once, and each process has a"
                " slice of them. Leave it out, or do not cut the vocabulary."
            )

    def __call__(
        self,
        vocabulary: VocabularySlice,
        hidden_NH: Tensor,
        targets_N: Tensor,
        values: StepValues,
        teacher_tiles: Iterator[TeacherTile] | None = None,
        *,
        tile_tokens: int,
        transform: LogitTransform | None = None,
        weights_N: Tensor | None = None,
    ) -> LossSums:
        """Sum the loss over response tokens; all processes of the group call it together.

        Args:
            vocabulary: what this process has of the head.
            hidden_NH: the student's hidden states, alike in all processes.
            targets_N: the response tokens, numbered in the whole vocabulary.
            values: scheduled values of the step.
            teacher_tiles: what the teacher predicts over the whole vocabulary, in tiles of
                ``tile_tokens``; needed where ``values.needs_teacher``.
            tile_tokens: tokens whose logits are in memory at once, alike in all processes.
            transform: what the student does to its logits; nothing by default.
            weights_N: how much each token counts.
        """
        loss, head = self.loss, vocabulary.head
        mine = max(0, min(loss.vocab_size - vocabulary.start, len(head.weight)))
        parameters = [one for one in (head.weight, head.bias) if one is not None]
        parameters = [one for one in parameters if one.requires_grad]
        trained = torch.is_grad_enabled() and (hidden_NH.requires_grad or bool(parameters))
        part = _Part(loss, vocabulary.start, mine, vocabulary.group)
        tiled = TiledSum(
            LinearProjection(head, mine, loss.autocast_dtype, trained=trained),
            transform or LogitTransform(),
            targets_N,
            lambda block: part.sums(block, values),
            None,
            teacher_tiles if values.needs_teacher else None,
            tile_tokens,
            tile_tokens,
            weights_N,
            in_order=True,
        )
        whole = _Reduced(tiled, vocabulary.group)
        total, parts = GradientsAtOnce.apply(whole, hidden_NH, *parameters)
        parts[KD_TOKENS].fill_(len(targets_N) if values.needs_teacher else 0)
        return LossSums(total, parts)


@dataclass(frozen=True)
class _Reduced:
    """A tiled sum of this process, and what all of them come to.

    Attributes:
        tiled: over this process's part of the vocabulary.
        group: the processes.
    """

    tiled: TiledSum
    group: Any

    @property
    def head(self) -> Any:
        """It keeps the gradients of this process's rows."""
        return self.tiled.head

    def run(self, hidden_NH: Tensor, hidden_grad_NH: Tensor | None) -> tuple[Tensor, Tensor]:
        """As ``TiledSum.run``: two reductions for all tiles together."""
        total, parts = self.tiled.run(hidden_NH, hidden_grad_NH)
        sums = torch.cat([total.unsqueeze(0), parts])
        dist.all_reduce(sums, group=self.group)
        if hidden_grad_NH is not None:
            dist.all_reduce(hidden_grad_NH, group=self.group)
        return sums[0].clone(), sums[1:].clone()


@dataclass(frozen=True)
class _Part:
    """What one process adds to the loss of a block: sums over its tokens of the vocabulary.

    Attributes:
        loss: what is computed.
        start: the first token of this process.
        count: how many it has.
        group: the processes.
    """

    loss: DistillLoss
    start: int
    count: int
    group: Any

    def sums(self, block: Block, values: StepValues) -> tuple[Tensor, Tensor]:
        """Loss and parts, of which the sums over the processes are the block's."""
        loss, tau = self.loss, values.distill_temperature
        logp_rW = log_softmax(block.logits_rV, self.group)
        ce = self._weighed(self._labels(logp_rW, block.targets_r), block)
        kd = agreed = torch.zeros_like(ce)
        total = values.ce_weight * ce if values.ce_weight else torch.zeros_like(ce)
        if block.teacher is not None:
            tile, rows = block.teacher
            if tile.kept_nK is not None:
                raise ConfigError(
                    "A vocabulary that is cut over processes needs what the teacher says of every"
                    " token: a live teacher, or its stored hidden states."
                )
            teacher_rV = tile.log_probs(rows, tau)
            agreed = self._agreed(block.logits_rV.detach(), teacher_rV)
            teacher_rW = teacher_rV[:, self.start : self.start + self.count]
            soft_rW = logp_rW
            if tau != 1.0:
                soft_rW = log_softmax(block.logits_rV / tau, self.group)
            target_rW = loss.target(teacher_rW, soft_rW, values.student_share)
            kd = self._weighed(loss.distance(target_rW, soft_rW, values), block)
            kd = kd * tau**2 if loss.tau2_scaling else kd
            total = total + (1.0 - values.ce_weight) * kd
        nothing = torch.zeros_like(ce)
        parts = [ce, kd, agreed, nothing, nothing]
        return total, torch.stack([part.detach().double() for part in parts])

    @staticmethod
    def _weighed(value_r: Tensor, block: Block) -> Tensor:
        weighed_r = value_r if block.weights_r is None else value_r * block.weights_r
        return weighed_r.sum(dtype=torch.float64)

    def _labels(self, logp_rW: Tensor, targets_r: Tensor) -> Tensor:
        """Cross-entropy where this process has the label, and 0 elsewhere, shape ``[r]``."""
        places_r = targets_r - self.start
        mine_r = (places_r >= 0) & (places_r < self.count)
        if not self.count:
            return logp_rW.sum(-1)
        found_r = logp_rW.gather(-1, places_r.clamp(0, self.count - 1).unsqueeze(-1)).squeeze(-1)
        return -found_r.masked_fill(~mine_r, 0.0)

    def _agreed(self, logits_rW: Tensor, teacher_rV: Tensor) -> Tensor:
        """Tokens where the student's likeliest is the teacher's; counted by the first process."""
        best_r = teacher_rV.argmax(-1)
        places_r = best_r - self.start
        mine_r = (places_r >= 0) & (places_r < self.count)
        found_2r = logits_rW.new_full((2, len(logits_rW)), -torch.inf)
        if self.count:
            wanted_r = logits_rW.gather(-1, places_r.clamp(0, self.count - 1).unsqueeze(-1))
            found_2r[0] = wanted_r.squeeze(-1).masked_fill(~mine_r, -torch.inf)
            found_2r[1] = logits_rW.amax(-1)
        dist.all_reduce(found_2r, dist.ReduceOp.MAX, group=self.group)
        agreed = (found_2r[0] >= found_2r[1]).sum()
        return agreed if dist.get_rank(self.group) == 0 else torch.zeros_like(agreed)


def log_softmax(logits_rW: Tensor, group: Any = None) -> Tensor:
    """Log-probabilities of this process's tokens, normalised over those of all processes.

    Args:
        logits_rW: their logits; W may be 0, and differ between processes.
        group: the processes; all of them call it, forwards and backwards, in the same order.

    Returns:
        Shape ``[r, W]``.
    """
    return _LogSoftmax.apply(logits_rW, group)


class _LogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_rW: Tensor, group: Any) -> Tensor:
        most_r = logits_rW.new_full(logits_rW.shape[:-1], -torch.inf)
        if logits_rW.shape[-1]:
            most_r = logits_rW.amax(-1)
        dist.all_reduce(most_r, dist.ReduceOp.MAX, group=group)
        shifted_rW = logits_rW - most_r.unsqueeze(-1)
        sum_r = shifted_rW.exp().sum(-1)
        dist.all_reduce(sum_r, group=group)
        logp_rW = shifted_rW.sub_(sum_r.log().unsqueeze(-1))
        ctx.save_for_backward(logp_rW)
        ctx.group = group
        return logp_rW

    @staticmethod
    def backward(ctx: Any, above_rW: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Every logit moves the sum, and with it the log-probabilities of all processes."""
        (logp_rW,) = ctx.saved_tensors
        sum_r = above_rW.sum(-1)
        dist.all_reduce(sum_r, group=ctx.group)
        return above_rW - logp_rW.exp() * sum_r.unsqueeze(-1), None
