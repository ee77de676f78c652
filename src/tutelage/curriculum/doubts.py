"""Where a difficulty profile means little, in words: known before the run, with what to do."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tutelage.curriculum.subsets import prefix
from tutelage.curriculum.table import CURRICULA
from tutelage.types import DifficultyProfile, Plan, Stage

SAME_STAGES = 3
"""So many stages in a row that are the same examples are named, if they are a quarter of all."""
SPREAD = 0.05
"""Scores hardly differ when the middle four fifths of them span less than this part of the mean."""


def profile_doubts(
    plan: Plan,
    profile: DifficultyProfile,
    losses: Mapping[str, float] | None = None,
    vocab_size: int | None = None,
) -> list[str]:
    """What makes an order of difficulty, or its teacher, doubtful; empty when nothing does.

    Args:
        plan: the plan that follows from the profile.
        profile: difficulty of its examples.
        losses: of ``student`` and ``teacher`` on the answers, in nats per token, where known.
        vocab_size: real tokens of the student.
    """
    losses = losses or {}
    doubts = []
    if CURRICULA[plan.curriculum].by_difficulty:
        doubts += _guessing(losses.get("student"), vocab_size)
        doubts += _alike(profile)
        doubts += _repeated(plan)
    if plan.has_teacher_signal() and {"student", "teacher"} <= losses.keys():
        doubts += _weak_teacher(losses["student"], losses["teacher"])
    return doubts


def _guessing(student: float | None, vocab_size: int | None) -> list[str]:
    if student is None or vocab_size is None or student < math.log(vocab_size):
        return []
    return [
        f"The student's loss on the answers is {student:.1f} nats per token, and a uniform guess"
        f" among its {vocab_size:,} tokens has {math.log(vocab_size):.1f}: it knows nothing of the"
        " data yet, so its order of difficulty means nothing. Let it learn a little before it is"
        " measured: --set student.finetune.epochs=1"
    ]


def _alike(profile: DifficultyProfile) -> list[str]:
    values, counts = np.unique(profile.scores, return_counts=True)
    most = int(counts.argmax())
    way_out = (
        "Measure something that tells them apart (`tutelage ls difficulties`), or leave the order"
        " to chance: --set curriculum.kind=random"
    )
    if 2 * counts[most] > len(profile) > 1:
        return [
            f"{counts[most]:,} of {len(profile):,} examples have the same difficulty,"
            f" {values[most]:.4g}: among them the order is that of their ids. {way_out}"
        ]
    low, high = np.quantile(profile.scores, [0.1, 0.9])
    if high - low < SPREAD * abs(profile.scores.mean()):
        return [
            f"Difficulty hardly varies: four fifths of the examples lie between {low:.4g} and"
            f" {high:.4g}, so the order is mostly noise. {way_out}"
        ]
    return []


def _repeated(plan: Plan) -> list[str]:
    """The longest row of stages that have the same examples."""
    kind = CURRICULA[plan.curriculum]
    if kind.subset is not prefix or kind.draw is not None:
        return []
    first, last = _longest_run(plan.stages)
    count = last - first + 1
    if count < SAME_STAGES or 4 * count < len(plan.stages):
        return []
    size = plan.stages[first - 1].num_examples
    steps = sum(stage.steps for stage in plan.stages[first - 1 : last])
    text = (
        f"Stages {first} to {last} ({steps} of {plan.total_steps} steps) are the same {size:,}"
        " examples"
    )
    if plan.curriculum == "calibrated":
        return [
            f"{text}: the mean difficulties that they aim at, equal parts of the whole, lie below"
            " that of the easiest examples. Count from these instead:"
            " --set curriculum.kind=calibrated_anchored"
        ]
    return [
        f"{text}. Use fewer stages: --set curriculum.stages={max(len(plan.stages) // count, 1)}"
    ]


def _longest_run(stages: Sequence[Stage]) -> tuple[int, int]:
    """Numbers of the first and last stage of the longest row with one size."""
    sizes = np.asarray([stage.num_examples for stage in stages])
    starts = np.flatnonzero(np.diff(sizes, prepend=-1))
    lengths = np.diff(starts, append=len(sizes))
    longest = int(lengths.argmax())
    return int(starts[longest]) + 1, int(starts[longest] + lengths[longest])


def _weak_teacher(student: float, teacher: float) -> list[str]:
    if teacher < student:
        return []
    return [
        f"The teacher's loss on the answers is {teacher:.2f} nats per token and the student's"
        f" {student:.2f}: the teacher is worse at what it is to teach. Fine-tune it first,"
        " --set teacher.finetune.epochs=1, or let it write the answers,"
        " --set supervision.kind=text"
    ]
