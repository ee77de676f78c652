"""What a plan will cost: tokens, time, memory, disk. Estimates, said to be so."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tutelage.training.tiles import tile_rows
from tutelage.types import Plan

BACKWARD = 3.0
"""A training step costs about this many forward passes of the student."""

ACTIVATION_BYTES = 34 * 2
"""Bytes of activations for each token, layer and hidden unit, roughly."""


@dataclass(frozen=True)
class Cost:
    """An estimate of a training run.

    Attributes:
        tokens: tokens that the student reads, padding left out.
        teacher_tokens: tokens that the teacher reads; once each when it is stored.
        seconds: time of training; None when nothing is known about speed.
        memory_bytes: weights, gradients, optimizer, teacher and activations of one process.
        disk_bytes: checkpoints, the student and the run's files, and what the teacher store lacks.
        store_bytes: of these, what the teacher store lacks, which arms may share.
        baseline_seconds: time of the plain run with the same teacher.
    """

    tokens: int
    teacher_tokens: int
    seconds: float | None
    memory_bytes: int
    disk_bytes: int
    store_bytes: int
    baseline_seconds: float | None

    def as_dict(self) -> dict[str, Any]:
        """The estimate as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Scale:
    """Sizes that an estimate needs.

    Attributes:
        parameters: of the student.
        trainable: parameters with gradients and optimizer state.
        teacher_parameters: of the teacher; 0 without one.
        teacher_bytes: memory of its weights.
        layers: of the student.
        hidden: width of the student.
        vocab: real tokens.
        micro_batch: rows of a micro-batch.
        max_tokens: tokens of the longest row.
        tile_tokens: tokens whose logits are in memory at once; None for the loss's own budget.
        forward_tokens_per_second: of the student on this machine; None when not measured.
        checkpoints: how many are kept.
        signal: where the teacher's distributions come from: live, hidden or topk.
        tokens_to_store: tokens that the teacher still has to read for its store.
        store_bytes: disk that the store still needs.
    """

    parameters: int
    trainable: int
    teacher_parameters: int
    teacher_bytes: int
    layers: int
    hidden: int
    vocab: int
    micro_batch: int
    max_tokens: int
    tile_tokens: int | None
    forward_tokens_per_second: float | None
    checkpoints: int
    signal: str = "live"
    tokens_to_store: int = 0
    store_bytes: int = 0


def estimate(plan: Plan, tokens_of: dict[str, int], scale: Scale) -> Cost:
    """Estimate a plan from the length of each example and the speed of the student's forward pass.

    Args:
        plan: the plan.
        tokens_of: tokens of each example by id.
        scale: sizes and measured speed.
    """
    lengths = np.asarray([tokens_of[example_id] for example_id in plan.ids], dtype=np.int64)
    per_visit = lengths[plan.visits]
    step_of_visit = np.repeat(np.arange(plan.total_steps), np.diff(plan.offsets))
    with_teacher = (plan.ce_weight < 1) & (plan.student_share < 1)
    tokens = int(per_visit.sum())
    live = scale.signal == "live"
    teacher_tokens = (
        int(per_visit[with_teacher[step_of_visit]].sum()) if live else scale.tokens_to_store
    )
    ratio = scale.teacher_parameters / max(scale.parameters, 1)
    seconds = baseline_seconds = None
    if scale.forward_tokens_per_second:
        forwards = BACKWARD * tokens + ratio * teacher_tokens
        seconds = forwards / scale.forward_tokens_per_second
        plain = lengths.mean() * plan.baseline_steps * plan.batch_size
        share = ratio * (plain if live and teacher_tokens else teacher_tokens)
        baseline_seconds = (plain * BACKWARD + share) / scale.forward_tokens_per_second
    row_tokens = scale.micro_batch * scale.max_tokens
    # Logits of both models for a tile; gradients are written over them.
    logit_bytes = 4 * 2 * scale.vocab
    tile = min(row_tokens, scale.tile_tokens or tile_rows(row_tokens, logit_bytes))
    memory = (
        4 * scale.parameters
        + 12 * scale.trainable
        + scale.teacher_bytes
        + ACTIVATION_BYTES * row_tokens * scale.layers * scale.hidden
        + logit_bytes * tile
    )
    # A checkpoint holds the weights and Adam's two moments; one more is there while it is written.
    checkpoint = 4 * scale.parameters + 8 * scale.trainable
    disk = (scale.checkpoints + 1) * checkpoint + 2 * 4 * scale.parameters + scale.store_bytes
    return Cost(
        tokens,
        teacher_tokens,
        seconds,
        int(memory),
        int(disk),
        scale.store_bytes,
        baseline_seconds,
    )


def size_text(number: float) -> str:
    """A number of bytes for a person."""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
