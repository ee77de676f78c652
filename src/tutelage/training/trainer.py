"""The trainer: it carries out a plan and decides nothing."""

import functools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers.trainer_callback import TrainerCallback

from tutelage.curriculum.options import LOSS_VALUES
from tutelage.data import keep_stops
from tutelage.data.collate import padding_id
from tutelage.devices import sent
from tutelage.training import resume
from tutelage.training.ahead import StepsAhead
from tutelage.training.around import GradientCheck, RestartsAndShare
from tutelage.training.average import AveragedWeights, Averaging, averaged
from tutelage.training.batches import visits_loader
from tutelage.training.budget import split_by_tokens
from tutelage.training.config import DistillConfig
from tutelage.training.half import half_precision_note
from tutelage.training.inputs import given_inputs
from tutelage.training.loss import StepValues
from tutelage.training.matched_states import MatchStates
from tutelage.training.on_policy import OnPolicySteps
from tutelage.training.optimizer import plan_scheduler
from tutelage.training.own_answers import OwnAnswers
from tutelage.training.own_text import watch
from tutelage.training.plain import plain_plan
from tutelage.training.shardable import ShardableTrainer
from tutelage.training.share import AdaptiveShare
from tutelage.training.signals import Teacher
from tutelage.training.step_loss import StepLoss
from tutelage.training.sums import StepSums
from tutelage.training.text_source import WatchValidation, text_record
from tutelage.training.validation import Validator, cross_entropy, of_each, undisturbed
from tutelage.training.weights import weighed
from tutelage.types import Plan

LOG = logging.getLogger(__name__)


class DistillTrainer(ShardableTrainer):
    r"""``transformers.Trainer`` that trains a student as a plan says.

    The loss of an optimizer step is the sum over its response tokens, over all micro-batches and
    all processes, divided once by their number, so it does not depend on how the step is cut up.

    Args:
        model: the student, a causal language model (a LoRA model of ``peft`` is one too), or the
            name of one, which is loaded in float32.
        args: settings; the loss is set up from them.
        train_dataset: rows with ``input_ids`` and ``labels`` (-100 outside of response tokens), and
            with ``id`` when a plan is given: a ``datasets.Dataset``, a list of dicts or a map-style
            data set of torch. ``tutelage.data.tokenize_examples`` makes such rows.
            A column ``teacher`` says who wrote an answer; then rows are joined by id and teacher.
        teacher: a model with the student's vocabulary, or any ``TeacherSignal``, or one for each
            name in ``plan.teachers`` (a ``TeacherLadder`` loads them one at a time); None when no
            step of the plan takes anything from a teacher.
        plan: what to do at which step; None makes a plain shuffled run from the settings.
        eval_dataset: rows like those for training, or several such by name; evaluation gives their
            cross-entropy.
        processing_class: the tokenizer; it is saved beside the student and pads the batches.
        vocab_size: number of real tokens; None takes the smaller of both heads.
        validator: called with the student in evaluation mode, gives named metrics; when given, it
            takes the place of the cross-entropy on ``eval_dataset``.
        own_answers: how the student answers on the plan's on-policy steps.
        callbacks: further callbacks of transformers.
        logs: files that grow with the training; each checkpoint vouches for what they held then.

    Raises:
        ConfigError: the plan needs a teacher and there is none; a setting contradicts the plan.
        DataError: ids of the plan that the data lacks; rows without a response token, or with
            tokens that the student or the teacher does not have.
        NonFiniteLossError: during training, when loss or gradient is NaN or infinite; the ids of
            the batch are saved in the output folder.

    Example:
        >>> trainer = DistillTrainer(student, DistillConfig("out"), rows, teacher=teacher)
        ... # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """

    # compute_loss divides by the token count of the whole step itself.
    loss_is_scaled_for_ga = True
    _resumed_at = 0

    def __init__(
        self,
        model: nn.Module | str,
        args: DistillConfig,
        train_dataset: Any,
        *,
        teacher: Teacher | str | Mapping[str, Teacher | str] | None = None,
        plan: Plan | None = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        vocab_size: int | None = None,
        validator: Validator | None = None,
        own_answers: OwnAnswers | None = None,
        callbacks: list[TrainerCallback] | None = None,
        logs: Sequence[str | Path] = (),
    ) -> None:
        given = given_inputs(model, args, train_dataset, teacher, plan, vocab_size)
        self._plan_rules_lr = plan is not None
        super().__init__(
            model=given.student,  # type: ignore[arg-type]
            args=args,
            train_dataset=given.rows,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
        )
        self.student = given.student
        if processing_class is not None:
            keep_stops(given.student, processing_class)
        self._settings = args
        self._ids, self._writers = given.ids, given.writers
        self.plan = plan if plan is not None else plain_plan(args, self._ids)
        # The plan holds every pass over the data, so it is one epoch to transformers.
        args.num_train_epochs = 1
        self.validator = validator
        self.own_answers = own_answers
        controller = args.share_controller
        self.adaptive = None if controller is None else AdaptiveShare(controller, self.plan)
        self.step_loss = StepLoss(
            self.student,
            given.teacher,
            self.plan,
            args,
            given.vocab_size,
            # Not the flags in the settings: `accelerate launch` may have said otherwise.
            mixed_precision=str(self.accelerator.mixed_precision),
            target_entropy=self.adaptive is not None and self.adaptive.observes_cross_entropy,
        )
        self.ahead = StepsAhead(self.plan, self.step_loss)
        self.states, routers = self.step_loss.states, self.step_loss.routers
        for note in (routers.note, half_precision_note(self.student, args.learning_rate)):
            if note:
                LOG.warning(note)
        self._pad_token_id = 0 if processing_class is None else padding_id(processing_class)
        self.on_policy = OnPolicySteps.of(self, self._pad_token_id)
        self.step_ids: list[str] = []
        self.sums = StepSums(args.device)
        self.finite_losses: list[tuple[Tensor, list[str]]] = []
        self._last_values: StepValues | None = None
        self._logs = tuple(logs)
        self.cut()
        self.average = AveragedWeights.of(self, args.average)
        for callback in (GradientCheck, RestartsAndShare, MatchStates, Averaging, WatchValidation):
            self.add_callback(callback(self))
        self.add_callback(resume.TimedCheckpoints(self, args.checkpoint_minutes))

    # ---- data -------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        """Micro-batches of this process in the order of the plan; not shuffled, not sharded."""
        ids, writers = self._ids, self._writers
        rows, pad = self.train_dataset, self._pad_token_id
        return visits_loader(self.plan, rows, ids, writers, self.args, pad)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor]:
        """The micro-batches of one step and the number of their response tokens everywhere."""
        batches = self.ahead.step(epoch_iterator, num_batches)
        step = batches[0]["step"]
        if self.on_policy is not None and self.plan.on_policy[step]:
            with self.whole():
                batches = self.on_policy.answered(self, batches)
        self.finite_losses.clear()
        self.step_ids = [example_id for batch in batches for example_id in batch["ids"]]
        batches, tokens, learned = weighed(batches, self.plan, self.over_processes, device)
        self.sums.response_tokens += tokens
        return batches, learned.clamp_min(1)

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Tokens go to the device; labels and mask stay: looking them up waits for nobody."""
        return {**inputs, "input_ids": sent(inputs["input_ids"], self.args.device)}

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Forward and backward of a micro-batch, in parts that keep to the budget of tokens."""
        budget, packed = self._settings.micro_batch_tokens, self.step_loss.packed
        cut = split_by_tokens(inputs, budget, packed=packed)
        parts = self.evened(list(cut), self._pad_token_id)
        for part in parts[:-1]:
            with self.accelerator.no_sync(model):
                super().training_step(model, part, num_items_in_batch)
        return super().training_step(model, parts[-1], num_items_in_batch)

    # ---- loss -------------------------------------------------------------------------------

    def step_values(self, step: int) -> StepValues:
        """The values of a step (from 0): the plan's, but for a share that a controller moves."""
        values = {name: float(getattr(self.plan, name)[step]) for name in LOSS_VALUES}
        if self.adaptive is not None:
            values["student_share"] = self.adaptive.student_share(step)
        return StepValues(**values)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """This micro-batch's part of the step's loss: its sum over the tokens of the whole step."""
        assert inputs["step"] == self.state.global_step, "the batch belongs to another step"
        assert num_items_in_batch is not None and not return_outputs
        values = self._last_values = self.step_values(inputs["step"])
        part = self.step_loss(model, inputs, values, num_items_in_batch)
        self.finite_losses.append((part.finite, inputs["ids"]))
        kd_weight = values.distill_temperature**2 if self._settings.tau2_scaling else 1.0
        self.sums.add(part, kd_weight, own="of_student" in inputs)
        # Gradients are averaged over processes afterwards, and the sum is what is meant.
        return part.total * self.args.world_size

    # ---- learning rate, log, evaluation, checkpoints ------------------------------------------

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The plan's learning rates; without a plan, those of the settings."""
        if not self._plan_rules_lr:
            return super().create_scheduler(num_training_steps, optimizer)
        return plan_scheduler(self, self.plan, optimizer)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the loss and the plan's values to a training record."""
        if "loss" in logs:
            done, routers = self.state.global_step, bool(self.step_loss.routers.weight)
            logs.update(self.sums.record(done, self.over_processes, with_routers=routers))
            logs.update(text_record(self))
            stage = self.plan.stage_of(done - 1)
            values = self._last_values or self.step_values(done - 1)
            logs.update(stage=stage.stage, **vars(values), teacher=stage.teacher)  # type: ignore[arg-type]
            watch(self, logs)
        super().log(logs, start_time)

    @torch.no_grad()
    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """The validator's metrics, or token-mean cross-entropy in nats on the evaluation rows.

        Neither random state nor the plan moves.
        """
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(rows, dict) and self.validator is None:
            return of_each(self.evaluate, rows, ignore_keys, metric_key_prefix)
        with averaged(self), self.whole():  # callbacks may keep the student
            metrics = undisturbed(self.student, self.validator or self._cross_entropy_on(rows))
            named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
            self.log(dict(named))
            control = self.callback_handler.on_evaluate(self.args, self.state, self.control, named)
        self.control = control
        return named

    def _cross_entropy_on(self, rows: Any) -> Validator:
        size, pad = self.step_loss.distill.vocab_size, self._pad_token_id
        return functools.partial(cross_entropy, rows=rows, vocab_size=size, pad_token_id=pad)

    def train(
        self, resume_from_checkpoint: str | Path | bool | None = None, **keywords: Any
    ) -> Any:
        """Train, from a checkpoint if one is given, as ``transformers.Trainer.train``.

        True takes the newest whole one in the output folder. With one that stands at the last step
        nothing is trained; one that is damaged or not whole is refused with ``RunFolderError``.
        """
        folder = str(self.args.output_dir)
        self.sums = StepSums(self.args.device)  # a second training begins a record of its own
        self._resumed_at, checkpoint = resume.checkpoint_asked(resume_from_checkpoint, folder)
        if checkpoint is not None:
            resume.load_beside(self, checkpoint)
        with self.ahead:
            done = super().train(resume_from_checkpoint=checkpoint, **keywords)
        resume.forget_rollouts(self)
        return done

    def set_initial_training_values(self, *arguments: Any, **keywords: Any) -> Any:
        """No step where a checkpoint stands at the last one: transformers would make one more."""
        values = super().set_initial_training_values(*arguments, **keywords)
        return (0, *values[1:]) if self._resumed_at >= values[-1] else values

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save, then mark as whole, then remove older ones: a kill at any moment loses nothing."""
        with resume.saving_checkpoint(self, self._logs):
            super()._save_checkpoint(model, trial)
        resume.forget_rollouts(self)
