"""What a plan says to an optimizer: its learning rates, and where it begins anew."""

from typing import Any

import torch

from tutelage.types import Plan


def plan_scheduler(
    trainer: Any, plan: Plan, optimizer: Any = None
) -> torch.optim.lr_scheduler.LRScheduler:
    """The plan's learning rates as the scheduler of a trainer, made once.

    Args:
        trainer: a ``transformers.Trainer``.
        plan: what to do at which step.
        optimizer: the optimizer; None for the trainer's own.
    """
    if trainer.lr_scheduler is None:
        factors = plan.lr_factor
        trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer or trainer.optimizer,
            lambda step: float(factors[min(step, len(factors) - 1)]),
        )
        trainer._created_lr_scheduler = True
    return trainer.lr_scheduler


def restart_where_planned(trainer: Any, plan: Plan) -> None:
    """Forget the optimizer's state before a step that begins with a new one.

    Args:
        trainer: a ``transformers.Trainer`` before a step.
        plan: what to do at which step.
    """
    if trainer.state.global_step in plan.restarts:
        # The optimizer makes its state anew at the first update without one.
        optimizer = trainer.optimizer
        getattr(optimizer, "optimizer", optimizer).state.clear()
