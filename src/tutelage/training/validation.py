"""Looking at a student between two steps of its training, which goes on as if nobody had."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from tutelage.difficulty import example_losses
from tutelage.errors import ConfigError
from tutelage.training.inputs import addressed_rows

Validator = Callable[[nn.Module], dict[str, float]]
"""Named metrics of a student."""


def undisturbed(student: nn.Module, validator: Validator) -> dict[str, float]:
    """What a validator says of a student in evaluation mode; neither mode nor random state moves.

    Args:
        student: the student.
        validator: gives its metrics.
    """
    was_training = student.training
    student.eval()
    device = next(student.parameters()).device
    try:
        # Of this GPU alone: another one may be somebody else's.
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            return validator(student)
    finally:
        student.train(was_training)


def of_each(
    evaluate: Callable[..., dict[str, float]], rows: Mapping[str, Any], ignored: Any, prefix: str
) -> dict[str, float]:
    """Metrics on several sets of rows, each with the name of its set.

    Args:
        evaluate: of a ``transformers.Trainer``.
        rows: the sets by name.
        ignored: handed to it.
        prefix: of all names.
    """
    found: dict[str, float] = {}
    for name, some in rows.items():
        found |= evaluate(some, ignored, f"{prefix}_{name}")
    return found


def cross_entropy(
    student: nn.Module, rows: Any, *, vocab_size: int, pad_token_id: int
) -> dict[str, float]:
    """Token-mean cross-entropy in nats.

    Args:
        student: the student.
        rows: the evaluation rows.
        vocab_size: number of real tokens.
        pad_token_id: fills the batches.

    Raises:
        ConfigError: there are no rows.
        DataError: rows that cannot be addressed.
    """
    if rows is None:
        raise ConfigError(
            "Evaluation needs `eval_dataset` or a `validator`; there is neither. Pass"
            " one to the trainer."
        )
    losses = example_losses(
        student,
        addressed_rows(rows, "eval_dataset"),
        vocab_size=vocab_size,
        pad_token_id=pad_token_id,
    )
    return {"loss": float(losses.loss_sums.sum() / max(losses.num_tokens.sum(), 1))}
