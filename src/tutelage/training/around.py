"""Callbacks by which ``DistillTrainer`` acts before and after optimizer steps."""

from typing import Any

import torch
from torch import nn
from transformers.trainer_callback import TrainerCallback, TrainerState

from tutelage.errors import NonFiniteLossError
from tutelage.files import atomic_write_json
from tutelage.models.shards import whole_tensor
from tutelage.training.optimizer import restart_where_planned


class RestartsAndShare(TrainerCallback):
    """Begin with a new optimizer where the plan says so; move the share after each step."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **keywords: Any) -> None:
        """Forget the optimizer's state at a restart."""
        restart_where_planned(self._trainer, self._trainer.plan)

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **keywords: Any) -> None:
        """Let the controller of the share see the step that was just made, on all processes."""
        trainer = self._trainer
        if trainer.adaptive is not None:
            loss, tokens = trainer.sums.observed(trainer.over_processes)
            if tokens:
                trainer.adaptive.observe(loss, state.global_step - 1)


class GradientCheck(TrainerCallback):
    """Stop before an update with a loss or gradient that is not finite: it would spoil the weights.

    Looked at once for each step: a GPU has to be waited for when it is asked.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, *arguments: Any, **keywords: Any) -> None:
        """Look at the norm of all gradients."""
        trainer = self._trainer
        grads = [p.grad for p in trainer.student.parameters() if p.grad is not None]
        finite = torch.isfinite(whole_tensor(nn.utils.get_total_norm(grads)))
        losses = torch.stack([flag for flag, _ in trainer.finite_losses])
        if finite & losses.all():
            return
        ids = [example_id for flag, ids in trainer.finite_losses if not flag for example_id in ids]
        _stop(trainer, "loss" if ids else "gradient", ids or trainer.step_ids)


def _stop(trainer: Any, what: str, ids: list[str]) -> None:
    """Save which examples were in hand, and stop."""
    step = trainer.state.global_step
    record = {"step": step + 1, "what": what, "ids": ids, **vars(trainer.step_values(step))}
    path = f"{trainer.args.output_dir}/non_finite_{trainer.args.process_index}.json"
    atomic_write_json(path, record)
    raise NonFiniteLossError(
        f"The {what} became NaN or infinite at step {step + 1} of {trainer.plan.total_steps}, so"
        f" training stopped; the last checkpoint is unharmed. The {len(ids)} example ids in"
        f" hand are saved in '{path}'. Look at them, lower the learning rate, or train in"
        " float32."
    )
