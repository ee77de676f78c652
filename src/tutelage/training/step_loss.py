"""What a micro-batch adds to the loss of its step: of the student, its teacher and its routers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.components import bind
from tutelage.devices import sent
from tutelage.divergences import DIVERGENCES
from tutelage.errors import ConfigError
from tutelage.models.head import check_head, response_hidden
from tutelage.models.packing import runs_packed
from tutelage.targets import TARGETS, TOKEN_CHOICES
from tutelage.teachers import (
    EnsembleTeacher,
    LiveTeacher,
    StoredTeacher,
    TeacherSignal,
    live_teacher,
)
from tutelage.training.config import DistillConfig
from tutelage.training.fused import pays
from tutelage.training.loss import CE, KD, TARGET_ENTROPY, DistillLoss, StepValues
from tutelage.training.matched_states import MatchedStates
from tutelage.training.routers import RouterLoss
from tutelage.training.settings import parts_of
from tutelage.training.signals import Teacher, signals_of
from tutelage.training.token_choice import ChosenTokens
from tutelage.training.weights import tokens_of_rows
from tutelage.types import Plan

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class StepPart:
    """The part of a step's loss that one micro-batch has: sums over the tokens of the whole step.

    Attributes:
        total: the loss with its graph, that of the routers included.
        parts: detached, see ``training.loss``.
        routers: the auxiliary loss of its routers, if any.
        states: the distance between hidden states and the tokens that it is of, shape ``[2]``, if
            any is taken.
        finite: whether the total is.
    """

    total: Tensor
    parts: Tensor
    routers: Tensor | None
    states: Tensor | None
    finite: Tensor


class StepLoss:
    """The loss of the steps of a plan, a micro-batch at a time.

    Args:
        student: the student.
        teacher: see ``signals_of``.
        plan: which teacher is asked when.
        args: settings of the loss.
        vocab_size: number of tokens over which student and teacher are compared.
        mixed_precision: as accelerate calls it, which may be told otherwise than the settings.
        target_entropy: add up the target's entropy too.

    Attributes:
        distill: the loss on hidden states.
        packed: whether batches run as one row without padding.
        routers: the auxiliary loss of a mixture of experts.
        states: the distance between hidden states; None where it has no weight.

    Raises:
        ConfigError: the plan needs a teacher that was not given, or a component is unknown.
        ModelError: a head or routers that no loss can be made of.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | Mapping[str, Teacher] | None,
        plan: Plan,
        args: DistillConfig,
        vocab_size: int,
        *,
        mixed_precision: str = "no",
        target_entropy: bool = False,
    ) -> None:
        check_head(student)
        self._plan = plan
        self._args = args
        second = None
        if args.second_divergence is not None:
            options = args.second_divergence_options
            second = bind(DIVERGENCES, "divergence", args.second_divergence, options)
        elif plan.second_share.any():
            raise ConfigError(
                "The plan has a share for a second divergence (second_share), and none was named."
                " Give second_divergence, or leave second_share out."
            )
        self.distill = DistillLoss(
            bind(DIVERGENCES, "divergence", args.divergence, args.divergence_options),
            bind(TARGETS, "target", args.target, args.target_options),
            vocab_size,
            args.tau2_scaling,
            args.tile_tokens,
            _HALF.get(mixed_precision),
            args.top_k,
            target_entropy,
            second=second,
            ce_trust=args.ce_trust,
            compiled=pays(args.device, plan.total_steps, vocab_size),
        )
        self._chosen = self._choice(plan, args)
        # Noise on embeddings is scaled by the length of a row, so rows must stay rows.
        wanted = args.padding_free if args.neftune_noise_alpha is None else False
        self.packed = runs_packed(student, args.device, wanted, _HALF.get(mixed_precision))
        self.routers = RouterLoss(student)
        self.states = None
        if args.state_weight:
            _check_states(plan)
            self.states = MatchedStates(args.state_weight, args.state_floor, args.device)
        self._teachers = signals_of(teacher, plan, self._live)

    def _choice(self, plan: Plan, args: DistillConfig) -> ChosenTokens | None:
        """What chooses the tokens to learn from; None where all are learned from."""
        if args.tokens is None:
            if (plan.token_share < 1.0).any():
                raise ConfigError(
                    "The plan learns from a share of the tokens (token_share), and which was not"
                    " said. Give tokens, or leave token_share out."
                )
            return None
        score = bind(TOKEN_CHOICES, "token choice", args.tokens, args.token_options)
        needs_teacher = TOKEN_CHOICES[args.tokens].needs_teacher
        if needs_teacher and not plan.takes_logits.all():
            raise ConfigError(
                f"The tokens '{args.tokens}' are chosen with the teacher, and the plan has steps"
                " that ask none. Keep ce_weight and student_share below 1, or choose by"
                " student_entropy."
            )
        return ChosenTokens(score, needs_teacher, self.distill)

    def _live(self, model: nn.Module) -> TeacherSignal:
        """A teacher that runs beside the student."""
        cut = parts_of(self._args.shard, "teacher", self._args.world_size) > 1
        signal = live_teacher(
            model if cut else model.to(self._args.device),
            self.distill.vocab_size,
            self.distill.autocast_dtype,
            padding_free=self._args.padding_free,
        )
        return signal.cut(self._args.device) if cut else signal

    def teacher_states(self, inputs: Mapping[str, Any]) -> list[Tensor]:
        """What the step's teacher encodes the response tokens of each row to, ``[n, H]`` each.

        Args:
            inputs: a micro-batch, its tokens on the device.
        """
        rows = (inputs["input_ids"], inputs["attention_mask"], inputs["labels"])
        teacher = self._teachers[self._plan.teacher_of(inputs["step"])]
        counts = (inputs["labels"][:, 1:] >= 0).sum(1).tolist()
        return list(teacher.encode(inputs["ids"], *rows).split(counts))

    def reader(self, step: int) -> StoredTeacher | EnsembleTeacher | None:
        """The teacher of a step, where it may be stored, to be told what it will be asked."""
        signal = self._teachers[self._plan.teacher_of(step)]
        return signal if isinstance(signal, StoredTeacher | EnsembleTeacher) else None

    def rest(self, step: int) -> None:
        """Let the teacher of a step rest, where it can: it has nothing more to read."""
        signal = self._teachers[self._plan.teacher_of(step)]
        if isinstance(signal, LiveTeacher):
            signal.rest()

    def teacher_model(self, step: int) -> nn.Module:
        """The teacher of a step (from 0), where it is one model that runs here.

        Raises:
            ConfigError: it is not.
        """
        signal = self._teachers.get(self._plan.teacher_of(step))
        if not isinstance(signal, LiveTeacher):
            raise ConfigError(
                "`teacher_top_k` mends the student's answers with the teacher as they are written,"
                " so the teacher must be one model that runs beside the student. Give one, or"
                " leave `teacher_top_k` out."
            )
        return signal.model

    def __call__(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        values: StepValues,
        num_tokens: Tensor | int,
    ) -> StepPart:
        """The part of one micro-batch.

        Args:
            model: the student, as accelerate has wrapped it.
            inputs: the micro-batch.
            values: of its step.
            num_tokens: those tokens of the whole step, over all processes, that are learned from.
        """
        rows = (inputs["input_ids"], inputs["attention_mask"], inputs["labels"])
        with self.routers.caught() as router_losses:
            hidden_NH, targets_N = response_hidden(model, *rows, packed=self.packed)
        teacher = teacher_hidden_NH = None
        if values.needs_teacher:
            teacher = self._teachers[self._plan.teacher_of(inputs["step"])]
            states = inputs.get("states")
            teacher_hidden_NH = (
                teacher.encode(inputs["ids"], *rows)
                if states is None
                else _joined(states, hidden_NH.device)
            )
        weights = inputs.get("weights")
        weights_N = None if weights is None else _joined(weights, hidden_NH.device)
        if self._chosen is not None and values.token_share < 1.0:
            counts_B = sent(tokens_of_rows(inputs), hidden_NH.device)
            where = self._chosen(
                model, hidden_NH, counts_B, values.token_share, teacher, teacher_hidden_NH
            )
            hidden_NH, targets_N = hidden_NH[where], targets_N[where]
            weights_N = None if weights_N is None else weights_N[where]
            teacher_hidden_NH = None if teacher_hidden_NH is None else teacher_hidden_NH[where]
        sums = self.distill(
            model,
            hidden_NH,
            targets_N,
            values,
            teacher,
            teacher_hidden_NH,
            sampled=self._args.sampled and inputs.get("of_student", False),
            weights_N=weights_N,
        )
        parts = sums.parts.clone()
        # One by one: a list of places would be sent to the device, and waited for.
        for place in (CE, KD, TARGET_ENTROPY):
            parts[place] /= num_tokens
        total, routers, states = sums.total / num_tokens, None, None
        if self.states is not None and teacher_hidden_NH is not None:
            ready = self.states.is_ready
            gap = self.states(hidden_NH, teacher_hidden_NH, weights_N)
            total = total + self.states.weight * gap.to(total.dtype) / num_tokens
            count = gap.new_tensor(len(targets_N)) if weights_N is None else weights_N.sum()
            states = torch.stack([gap.detach(), count.to(gap.dtype) * ready]) / num_tokens
        if router_losses:
            # Its mean over the step: micro-batches weigh what they have of the step's tokens.
            routers = torch.stack(router_losses).sum() * (len(targets_N) / num_tokens)
            total = total + self.routers.weight * routers
        return StepPart(total, parts, routers, states, torch.isfinite(total))


def _check_states(plan: Plan) -> None:
    """Raise a ``ConfigError`` unless every step of a plan has the same teacher's states."""
    if not plan.takes_logits.all():
        raise ConfigError(
            "`state_weight` matches the teacher's hidden states, and the plan has steps that ask no"
            " teacher. Keep ce_weight and student_share below 1, or leave `state_weight` out."
        )
    if len(plan.teachers) > 1:
        raise ConfigError(
            f"`state_weight` matches the hidden states of one teacher, and the plan has"
            f" {len(plan.teachers)}. Keep one, mix them (ensemble), or leave `state_weight` out."
        )


def _joined(rows: Sequence[Tensor], device: torch.device) -> Tensor:
    """What rows have for each of their tokens, one after another; nothing of a filler."""
    return sent(torch.cat(list(rows)), device) if rows else torch.empty(0, device=device)
