"""The distillation loss, from hidden states to a sum, a tile of tokens at a time.

No array of all tokens times the whole vocabulary is ever held: each tile makes its logits, its
value and its gradient at once, and only the gradients with respect to hidden states and head
remain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tutelage.models.head import head_logits, head_parameters
from tutelage.numerics import expectation
from tutelage.targets import coarsen
from tutelage.teachers import TeacherSignal, teacher_log_probs

# Shape suffixes: N response tokens, n tokens of a tile, H hidden, V vocabulary.

Divergence = Callable[[Tensor, Tensor], Tensor]
Target = Callable[[Tensor, Tensor, float], Tensor]

CE, KD, AGREED, KD_TOKENS, TARGET_ENTROPY = range(5)
"""Positions in ``LossSums.parts``."""


@dataclass(frozen=True)
class StepValues:
    """The scheduled values of one optimizer step."""

    student_share: float
    distill_temperature: float
    ce_weight: float

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
        total: the loss with its graph, shape ``[]``.
        parts: detached float64 sums, shape ``[5]``: cross-entropy in nats, distillation (with tau
            squared), tokens where teacher and student agree on the likeliest one, tokens that had
            a teacher, entropy of the target (0 unless it is asked for).
    """

    total: Tensor
    parts: Tensor


@dataclass(frozen=True)
class DistillLoss:
    r"""Cross-entropy plus distillation, summed over response tokens.

    .. math:: w\,CE + (1 - w)\,\tau^2\,D(m(p_\tau, q_\tau) \,\|\, q_\tau)

    with w the ``ce_weight``, D the divergence, m the target. Cross-entropy is at temperature 1.

    Attributes:
        divergence: function of (target, student) log-probabilities.
        target: function of teacher and student log-probabilities and the student's share.
        vocab_size: number of real tokens; logits beyond it are cut off before every softmax.
        tau2_scaling: multiply distillation by the temperature squared, for every divergence alike.
        tile_tokens: tokens of a tile.
        target_entropy: add up the target's entropy too; a controller may observe it.
        top_k: compare the teacher's k likeliest tokens and one tail bucket alone; None for all.
        autocast_dtype: type of the head's matrix product; softmax and divergence are float32.
    """

    divergence: Divergence
    target: Target
    vocab_size: int
    tau2_scaling: bool = True
    tile_tokens: int = 1024
    autocast_dtype: torch.dtype | None = None
    top_k: int | None = None
    target_entropy: bool = False

    def __call__(
        self,
        student: nn.Module,
        hidden_NH: Tensor,
        targets_N: Tensor,
        values: StepValues,
        teacher: TeacherSignal | None = None,
        teacher_hidden_NH: Tensor | None = None,
    ) -> LossSums:
        """Sum the loss over the response tokens of a batch.

        Args:
            student: the student; its head makes the logits.
            hidden_NH: the student's hidden states that predict the response tokens.
            targets_N: the response tokens.
            values: scheduled values of the step.
            teacher: where the teacher's logits come from; needed where ``values.needs_teacher``.
            teacher_hidden_NH: the teacher's hidden states at the same positions.
        """
        device_type = hidden_NH.device.type

        def tile(tile_hidden_nH: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            with torch.autocast(
                device_type, self.autocast_dtype, enabled=self.autocast_dtype is not None
            ):
                logits_nV = head_logits(student, tile_hidden_nH, self.vocab_size)
            teacher_logp_nV = None
            if values.needs_teacher:
                assert teacher is not None and teacher_hidden_NH is not None
                teacher_logp_nV = teacher_log_probs(
                    teacher, teacher_hidden_NH[rows], values.distill_temperature
                )
            return self.tile_sums(logits_nV, targets_N[rows], values, teacher_logp_nV)

        total, parts = _TiledSum.apply(tile, self.tile_tokens, hidden_NH, *head_parameters(student))
        return LossSums(total, parts)

    def tile_sums(
        self,
        logits_nV: Tensor,
        targets_n: Tensor,
        values: StepValues,
        teacher_logp_nV: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Loss and parts of one tile, from logits; sums over its tokens.

        Args:
            logits_nV: the student's.
            targets_n: the response tokens.
            values: scheduled values of the step.
            teacher_logp_nV: the teacher's log-probabilities at the step's temperature, or None.
        """
        student_logp_nV = logits_nV.log_softmax(-1)
        ce = -student_logp_nV.gather(-1, targets_n.unsqueeze(-1)).sum()
        total = values.ce_weight * ce
        kd = agreed = entropy = ce.new_zeros(())
        if teacher_logp_nV is not None:
            tau = values.distill_temperature
            soft_student = student_logp_nV if tau == 1.0 else (logits_nV / tau).log_softmax(-1)
            target = self.target(teacher_logp_nV, soft_student, values.student_share)
            if self.top_k is not None:
                target, soft_student = coarsen(target, soft_student, teacher_logp_nV, k=self.top_k)
            if self.target_entropy:
                entropy = -expectation(target, target).sum()
            kd = self.divergence(target, soft_student).sum()
            kd = kd * tau**2 if self.tau2_scaling else kd
            total = total + (1.0 - values.ce_weight) * kd
            agreed = (logits_nV.argmax(-1) == teacher_logp_nV.argmax(-1)).sum()
        with_teacher = len(targets_n) if teacher_logp_nV is not None else 0
        parts = torch.stack(
            [part.detach().double() for part in (ce, kd, agreed)]
            + [torch.tensor(with_teacher, dtype=torch.float64, device=ce.device)]
            + [entropy.detach().double()]
        )
        return total, parts


class _TiledSum(torch.autograd.Function):
    """Sum of a function over tiles of hidden states; gradients are made tile by tile, at once."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        tile: Callable[[Tensor, slice], tuple[Tensor, Tensor]],
        tile_tokens: int,
        hidden_NH: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        needs_grad = any(ctx.needs_input_grad)  # type: ignore[attr-defined]
        total = torch.zeros((), dtype=torch.float64, device=hidden_NH.device)
        parts = torch.zeros(5, dtype=torch.float64, device=hidden_NH.device)
        hidden_grad = torch.zeros_like(hidden_NH) if needs_grad else None
        parameter_grads: Sequence[Tensor] = (
            [torch.zeros_like(p) for p in parameters] if needs_grad else []
        )
        for start in range(0, len(hidden_NH), tile_tokens):
            rows = slice(start, start + tile_tokens)
            with torch.set_grad_enabled(needs_grad):
                tile_hidden = hidden_NH[rows].detach().requires_grad_(needs_grad)
                tile_total, tile_parts = tile(tile_hidden, rows)
            if hidden_grad is not None:
                grads = torch.autograd.grad(tile_total, [tile_hidden, *parameters])
                hidden_grad[rows] = grads[0]
                for whole, grad in zip(parameter_grads, grads[1:], strict=True):
                    whole += grad
            total += tile_total.detach()
            parts += tile_parts
        ctx.save_for_backward(*([] if hidden_grad is None else [hidden_grad, *parameter_grads]))
        ctx.mark_non_differentiable(parts)
        return total.float() if hidden_NH.dtype != torch.float64 else total, parts

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: torch.autograd.function.FunctionCtx, grad_total: Tensor, grad_parts: Tensor
    ) -> tuple[Tensor | None, ...]:
        grads = ctx.saved_tensors  # type: ignore[attr-defined]
        return (None, None, *(grad * grad_total.to(grad.dtype) for grad in grads))
