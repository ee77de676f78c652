"""The distillation loss, from hidden states to a sum, a tile of tokens at a time.

No array of all tokens times the whole vocabulary is ever held: each tile makes its logits, its
value and its gradient at once, and only the gradients with respect to hidden states and head
remain.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tutelage.models.head import head_parameters, logit_transform
from tutelage.models.projection import projection
from tutelage.numerics import expectation
from tutelage.targets import coarsen, vouched, with_tail
from tutelage.teachers import TeacherSignal
from tutelage.teachers.live import LogitTile
from tutelage.training.fused import fused
from tutelage.training.tiles import (
    TILE_BYTES,
    Block,
    BlockGradient,
    GradientsAtOnce,
    TiledSum,
    block_rows,
    tile_rows,
)
from tutelage.training.written_out import can_be_written_out, likeliest_agree, written_out

# Shape suffixes: N response tokens, r tokens of a block, H hidden, V vocabulary, K kept tokens.

Divergence = Callable[[Tensor, Tensor], Tensor]
Target = Callable[[Tensor, Tensor, float], Tensor]

CE, KD, AGREED, KD_TOKENS, TARGET_ENTROPY = range(5)
"""Positions in ``LossSums.parts``."""


@dataclass(frozen=True)
class StepValues:
    """The scheduled values of one optimizer step, named as a plan names them."""

    student_share: float
    distill_temperature: float
    ce_weight: float
    second_share: float = 0.0
    token_share: float = 1.0

    @property
    def needs_teacher(self) -> bool:
        """Whether anything of this step comes from the teacher.

        With the student's share at 1 the target is the student itself: value and gradient of any
        divergence to it are 0, and the teacher need not run.
        """
        return self.ce_weight < 1.0 and self.student_share < 1.0


@dataclass(frozen=True)
class LossSums:
    """Sums over the response tokens of a batch, to be divided once by the step's token count.

    Attributes:
        total: the loss with its graph, shape ``[]``; its backward pass can be run once.
        parts: detached float64 sums, shape ``[5]``: cross-entropy in nats, distillation (with tau
            squared), tokens where teacher and student agree on a likeliest one, tokens that had a
            teacher, entropy of the target (0 unless it is asked for).
    """

    total: Tensor
    parts: Tensor


@dataclass(frozen=True)
class DistillLoss:
    r"""Cross-entropy plus distillation, summed over response tokens.

    .. math:: w\,u\,CE + (1 - w)\,\tau^2\,D(m(p_\tau, q_\tau) \,\|\, q_\tau)

    with w the ``ce_weight``, D the divergence, m the target, and u in [0, 1] how far the teacher
    vouches for the label: 1 unless ``ce_trust`` says otherwise. Cross-entropy is at temperature 1.

    Attributes:
        divergence: function of (target, student) log-probabilities.
        target: function of teacher and student log-probabilities and the student's share.
        vocab_size: number of real tokens; logits beyond it are cut off before every softmax.
        tau2_scaling: multiply distillation by the temperature squared, for every divergence alike.
        tile_tokens: tokens of a tile, whose logits are in memory at once; None for what
            ``tile_bytes`` hold.
        autocast_dtype: type of the head's matrix product; softmax and divergence are float32.
        top_k: compare the teacher's k likeliest tokens and one tail bucket alone; None for all.
        target_entropy: add up the target's entropy too; a controller may observe it.
        tile_bytes: memory for the logits of a tile, of both models together.
        second: another divergence; it has the share of D that the step's ``second_share`` says.
        ce_trust: which labels cross-entropy believes, see ``targets.vouched``; where a step has no
            teacher, all of them.
        block_tokens: tokens of a tile that go through softmax and divergence together; None for
            what stays in the cache.
        compiled: have a compiler make the kernels of what is written out, see ``training.fused``.
    """

    divergence: Divergence
    target: Target
    vocab_size: int
    tau2_scaling: bool = True
    tile_tokens: int | None = None
    autocast_dtype: torch.dtype | None = None
    top_k: int | None = None
    target_entropy: bool = False
    tile_bytes: int = TILE_BYTES
    block_tokens: int | None = None
    second: Divergence | None = None
    ce_trust: Literal["all", "agreed", "probability"] = "all"
    compiled: bool = False

    def __call__(
        self,
        student: nn.Module,
        hidden_NH: Tensor,
        targets_N: Tensor,
        values: StepValues,
        teacher: TeacherSignal | None = None,
        teacher_hidden_NH: Tensor | None = None,
        *,
        sampled: bool = False,
        weights_N: Tensor | None = None,
    ) -> LossSums:
        """Sum the loss over the response tokens of a batch.

        Args:
            student: the student; its head makes the logits.
            hidden_NH: the student's hidden states that predict the response tokens.
            targets_N: the response tokens.
            values: scheduled values of the step.
            teacher: where the teacher's logits come from; needed where ``values.needs_teacher``.
            teacher_hidden_NH: the teacher's hidden states at the same positions.
            sampled: the student drew the response tokens: compare at these alone. With target m,
                a token's part is log q - log m at the token x that was drawn, whose expectation
                over x is reverse KL; its gradient is (log q(x) - log m(x)) times that of log q(x),
                as in the policy gradient of on-policy distillation with no discount.
            weights_N: how much each token counts, in the parts too; None for all alike.
        """
        parameters = head_parameters(student)
        trained = torch.is_grad_enabled() and (hidden_NH.requires_grad or bool(parameters))
        head = projection(student, self.vocab_size, self.autocast_dtype, trained=trained)
        tile_tokens = self.tile_tokens
        if tile_tokens is None:
            arrays = head.arrays + values.needs_teacher
            row_bytes = 4 * arrays * self.vocab_size
            tile_tokens = tile_rows(len(hidden_NH), row_bytes, self.tile_bytes)
        teacher_tiles = None
        if values.needs_teacher:
            assert teacher is not None and teacher_hidden_NH is not None
            teacher_tiles = iter(teacher.tiles(teacher_hidden_NH, tile_tokens))
        tiled = TiledSum(
            head,
            logit_transform(student),
            targets_N,
            lambda block: self.block_sums(block, values, sampled=sampled),
            None if sampled else lambda block: self.written_out(block, values),
            teacher_tiles,
            tile_tokens,
            # A compiled block keeps nothing of its size beside the logits.
            tile_tokens
            if self.compiled and self._has_closed_form(values)
            else self.block_tokens or block_rows(hidden_NH.device, self.vocab_size),
            weights_N,
        )
        total, parts = GradientsAtOnce.apply(tiled, hidden_NH, *parameters)
        parts[KD_TOKENS].fill_(len(targets_N) if values.needs_teacher else 0)
        return LossSums(total, parts)

    def written_out(self, block: Block, values: StepValues) -> BlockGradient | None:
        """Loss, parts and gradient of one block, where the gradient has a closed form; else None.

        That is forward KL to the teacher over the whole vocabulary, cross-entropy with all labels,
        and their sum, with tokens that count alike.

        Args:
            block: logits (without a graph), response tokens and teacher.
            values: scheduled values of the step.
        """
        if block.weights_r is not None:
            return None
        teacher_logp, scale = None, 1.0
        if block.teacher is not None:
            tile, rows = block.teacher
            if tile.kept_nK is not None or not self._has_closed_form(values):
                return None
            scale = values.distill_temperature**2 if self.tau2_scaling else 1.0
        settings = {
            "ce_weight": values.ce_weight,
            "temperature": values.distill_temperature,
            "scale": scale,
        }
        made = self._fused(block, settings) if self.compiled and block.spent else None
        if made is None:
            if block.teacher is not None:
                tile, rows = block.teacher
                teacher_logp = tile.log_probs(rows, values.distill_temperature)
            made = written_out(block.logits_rV, block.targets_r, teacher_logp, **settings)
        ce, kd, agreed, gradient_rV = made
        total = values.ce_weight * ce
        if block.teacher is not None:
            total = total + (1.0 - values.ce_weight) * kd
        nothing = torch.zeros_like(ce)
        return total, torch.stack([ce, kd, agreed.double(), nothing, nothing]), gradient_rV

    def _has_closed_form(self, values: StepValues) -> bool:
        """Whether the gradient of a step's distillation has one, where the teacher tells all."""
        exact = self.top_k is None and not self.target_entropy
        believed = self.ce_trust == "all" or not values.ce_weight
        one = self.second is None or values.second_share == 0.0
        share = values.student_share
        return (
            exact and believed and one and can_be_written_out(self.divergence, self.target, share)
        )

    @staticmethod
    def _fused(
        block: Block, settings: dict[str, float]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
        """What is written out by kernels of a compiler; None where there are none."""
        if block.teacher is None:
            return None
        (tile, rows), left = block.teacher, settings["temperature"]
        if isinstance(tile, LogitTile) and tile.transform.is_identity:
            teacher_rV = tile.logits_nV[rows]
        else:
            teacher_rV, left = tile.log_probs(rows, left), 1.0
        return fused(
            block.logits_rV,
            block.targets_r,
            teacher_rV,
            teacher_temperature=left,
            **settings,
        )

    def block_sums(
        self, block: Block, values: StepValues, *, sampled: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Loss and parts of one block, from logits; sums over its tokens.

        Args:
            block: logits, response tokens and teacher.
            values: scheduled values of the step.
            sampled: compare at the response tokens alone.
        """
        logits_rV, tau = block.logits_rV, values.distill_temperature
        student_logp_rV = logits_rV.log_softmax(-1)
        chosen = student_logp_rV.gather(-1, block.targets_r.unsqueeze(-1))
        ce_r = -chosen.squeeze(-1)
        if block.weights_r is not None:
            ce_r = ce_r * block.weights_r
        ce = ce_r.sum(dtype=torch.float64)
        kd = agreed = entropy = torch.zeros_like(ce)
        # A weight of 0 keeps cross-entropy out of the backward pass, not out of the record.
        total = torch.zeros_like(ce)
        teacher_logp = None
        if block.teacher is not None:
            tile, rows = block.teacher
            teacher_logp = tile.log_probs(rows, tau)
        if values.ce_weight:
            believed_r = self._believed(block, ce_r, teacher_logp, tau)
            total = values.ce_weight * believed_r.sum(dtype=torch.float64)
        if teacher_logp is not None:
            soft_rV = student_logp_rV if tau == 1.0 else (logits_rV / tau).log_softmax(-1)
            kd, agreed, entropy = self._distillation(
                block, teacher_logp, soft_rV, values, sampled=sampled
            )
            total = total + (1.0 - values.ce_weight) * kd
        parts = [ce, kd, agreed, torch.zeros_like(ce), entropy]
        return total, torch.stack([part.detach().double() for part in parts])

    def _believed(
        self, block: Block, ce_r: Tensor, teacher_logp: Tensor | None, tau: float
    ) -> Tensor:
        """Cross-entropy of each token, as far as the teacher vouches for its label.

        Args:
            block: whose response tokens are the labels.
            ce_r: its cross-entropy.
            teacher_logp: the teacher's log-probabilities at the step's temperature.
            tau: that temperature.
        """
        if self.ce_trust == "all" or block.teacher is None or teacher_logp is None:
            return ce_r
        tile, rows = block.teacher
        kept_rK = None if tile.kept_nK is None else tile.kept_nK[rows]
        # The likeliest token is the same at every temperature; its probability is not.
        if tau != 1.0 and self.ce_trust == "probability":
            teacher_logp = tile.log_probs(rows, 1.0)
        return ce_r * vouched(teacher_logp, block.targets_r, how=self.ce_trust, kept=kept_rK)

    def distance(self, target: Tensor, soft_rV: Tensor, values: StepValues) -> Tensor:
        """The divergence of each token: one of the two, or both by the step's share."""
        share = values.second_share
        if self.second is None or share == 0.0:
            return self.divergence(target, soft_rV)
        second_r = self.second(target, soft_rV)
        if share == 1.0:
            return second_r
        return (1.0 - share) * self.divergence(target, soft_rV) + share * second_r

    def _distillation(
        self,
        block: Block,
        teacher_logp: Tensor,
        soft_rV: Tensor,
        values: StepValues,
        *,
        sampled: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Distillation, agreeing tokens and entropy of the target, summed over a block.

        Args:
            block: whose teacher is given.
            teacher_logp: the teacher's log-probabilities at the step's temperature.
            soft_rV: the student's log-probabilities at the step's temperature.
            values: scheduled values of the step.
            sampled: compare at the response tokens alone.
        """
        assert block.teacher is not None
        (tile, rows), tau = block.teacher, values.distill_temperature
        ranking = teacher_logp
        logits_rV = block.logits_rV.detach()
        if tile.kept_nK is None:
            agreed, _ = likeliest_agree(logits_rV, teacher_logp)
        else:
            kept_rK = tile.kept_nK[rows]
            soft_rV = with_tail(soft_rV, kept_rK)
            # The tail is no token: it is never the likeliest, and stays in the tail of top_k.
            ranking = teacher_logp.clone()
            ranking[:, -1] = -torch.inf
            first = ranking.argmax(-1, keepdim=True)
            wanted_r = logits_rV.gather(-1, kept_rK.gather(-1, first)).squeeze(-1)
            agreed = (wanted_r >= logits_rV.amax(-1)).sum()
        target = self.target(teacher_logp, soft_rV, values.student_share)
        if self.top_k is not None:
            target, soft_rV = coarsen(target, soft_rV, ranking, k=self.top_k)
        entropy = torch.zeros_like(agreed)
        if self.target_entropy:
            entropy = -expectation(target.detach(), target.detach()).sum(dtype=torch.float64)
        kd_r = (
            at_drawn_tokens(target, soft_rV, block.targets_r)
            if sampled
            else self.distance(target, soft_rV, values)
        )
        if block.weights_r is not None:
            kd_r = kd_r * block.weights_r
        kd = kd_r.sum(dtype=torch.float64)
        return (kd * tau**2 if self.tau2_scaling else kd), agreed, entropy


def at_drawn_tokens(target_logp_rV: Tensor, student_logp_rV: Tensor, drawn_r: Tensor) -> Tensor:
    r"""One-sample estimate of reverse KL at tokens that the student drew.

    .. math:: \log q(x) - \log m(x), \quad x \sim q

    Its gradient is that of the expectation, estimated likewise: the value times the gradient of
    log q(x).

    Args:
        target_logp_rV: log-probabilities of the target m.
        student_logp_rV: of the student q.
        drawn_r: the tokens.

    Returns:
        Nats, shape ``[r]``; may be negative.

    References:
        Lu and Thinking Machines Lab, On-Policy Distillation, 2025.
    """
    where = drawn_r.unsqueeze(-1)
    student_r = student_logp_rV.gather(-1, where).squeeze(-1)
    excess_r = (student_r - target_logp_rV.gather(-1, where).squeeze(-1)).detach()
    return excess_r + excess_r * (student_r - student_r.detach())
