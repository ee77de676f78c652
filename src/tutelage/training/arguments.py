"""Which ``TrainingArguments`` a distillation follows: nothing that was set is silently ignored."""

import logging
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from tutelage.errors import ConfigError

LOG = logging.getLogger(__name__)

OWN_EVALUATION = "evaluation here is the cross-entropy of `eval_dataset`, or the `validator`"
BY_SHARD = "`shard` cuts models so that the loss finds the head whole, which this would not"
BY_TOKENS = "a step's loss is divided once, by the response tokens of all its micro-batches"
BY_PLAN = "the trainer walks through a plan, whose order and batches are fixed before training"

REFUSED = {
    "label_smoothing_factor": "the loss is cross-entropy plus a divergence, both unsmoothed",
    "average_tokens_across_devices": BY_TOKENS,
    "fsdp": BY_SHARD,
    "deepspeed": BY_SHARD,
    "parallelism_config": BY_SHARD,
    "torch_compile": "the loss takes the hidden states before the head, out of the model's forward"
    " pass, which a compiled model does not allow",
    "auto_find_batch_size": BY_PLAN,
    "train_sampling_strategy": BY_PLAN,
    "group_by_length": BY_PLAN,
    "dataloader_drop_last": BY_PLAN,
    "dataloader_in_order": BY_PLAN,
    "ignore_data_skip": BY_PLAN,
    "label_names": "the labels are in the column `labels`",
    "bf16_full_eval": OWN_EVALUATION,
    "fp16_full_eval": OWN_EVALUATION,
    "eval_accumulation_steps": OWN_EVALUATION,
    "include_for_metrics": OWN_EVALUATION,
    "batch_eval_metrics": OWN_EVALUATION,
}
"""Arguments that may only have their default, and why."""

REFUSED_WITH_PLAN = {
    "num_train_epochs": "how long to train",
    "lr_scheduler_type": "the course of the learning rate",
    "lr_scheduler_kwargs": "the course of the learning rate",
    "warmup_steps": "the course of the learning rate",
    "data_seed": "the order of the examples",
    "ce_weight": "the weight of cross-entropy at each step",
    "distill_temperature": "the temperature of each step",
    "student_share": "the student's share of each step",
    "second_share": "the share of the second divergence at each step",
    "token_share": "the share of the tokens at each step",
}
"""Arguments that a given plan decides, and what it says instead."""


def refuse_unknown_to_distillation(args: Any) -> None:
    """Refuse arguments that would have no effect, or another one than they have elsewhere.

    Args:
        args: a ``DistillConfig`` before it has touched its own fields.

    Raises:
        ConfigError: one of them is not at its default.
    """
    for name in _changed(args, REFUSED):
        raise ConfigError(
            f"DistillTrainer does not follow {name}={getattr(args, name)!r}: {REFUSED[name]}."
            " Leave it out."
        )
    if args.average is not None and args.load_best_model_at_end:
        raise ConfigError(
            "`average` keeps the averaged weights at the end, and load_best_model_at_end those of a"
            " checkpoint, which are not averaged. Leave one of them out."
        )
    if args.neftune_noise_alpha is not None and args.padding_free:
        raise ConfigError(
            "neftune_noise_alpha scales its noise by the length of a row, and padding_free=True"
            " makes one row of a batch. Leave padding_free out."
        )


def refuse_against_plan(args: Any) -> None:
    """Refuse arguments that say something else than the plan that was given.

    Args:
        args: a ``DistillConfig``.

    Raises:
        ConfigError: one of them is not at its default.
    """
    for name in _changed(args, REFUSED_WITH_PLAN):
        # An epoch is what the trainer itself makes of a plan's arguments.
        if name == "num_train_epochs" and args.num_train_epochs == 1:
            continue
        raise ConfigError(
            f"{name}={getattr(args, name)!r} and a plan were given, and the plan says"
            f" {REFUSED_WITH_PLAN[name]}. Leave {name} out, or compile the plan with it."
        )


def _changed(args: Any, names: Iterable[str]) -> list[str]:
    """Those of some arguments that are not at their default, in this version of transformers.

    An empty list is None: some versions put it there themselves once they have looked (``fsdp``).
    """
    defaults = {
        field.name: field.default_factory() if callable(field.default_factory) else field.default
        for field in fields(args)
        if field.name in names
    }
    values = {name: getattr(args, name) for name in defaults}
    return [name for name, value in values.items() if value != defaults[name] and value != []]


def use_one_gpu(args: Any) -> None:
    """Where a process sees several GPUs, train on the first.

    transformers would copy the student to all of them in one process, for every batch: slower than
    one process for each, and the loss reads the head of one student.

    Args:
        args: a ``DistillConfig`` that has found its devices.
    """
    if args.n_gpu > 1:
        LOG.warning(
            "This process sees %d GPUs and trains on one. To use them all, start a process for"
            " each: torchrun --nproc-per-node %d -m tutelage run RECIPE (or your script).",
            args.n_gpu,
            args.n_gpu,
        )
        args._n_gpu = 1
