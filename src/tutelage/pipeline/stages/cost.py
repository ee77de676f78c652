"""What training an arm will cost: tokens, time, memory, disk. Estimates, said to be so."""

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.curriculum import load_plan, plan_folder
from tutelage.curriculum.reuse import ReusePlan
from tutelage.data.lengths import NUM_TOKENS, stored_lengths, stored_texts
from tutelage.errors import RunFolderError
from tutelage.files import read_json
from tutelage.models import ModelSize
from tutelage.pipeline.context.display import size_text
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.data import rows_of
from tutelage.pipeline.stages.memory import Memory, Sizes, training_memory
from tutelage.pipeline.stages.rollouts import reuse_of, rollout_bytes
from tutelage.pipeline.stages.signal import decide_signals
from tutelage.pipeline.stages.store import LIVE, store_needs
from tutelage.proofs import write_sealed
from tutelage.recipe import Recipe
from tutelage.types import Plan

FILE = "cost.json"
"""In a run folder: what training each arm was estimated to take."""

_COURSE = 100
"""Parts of a plan's steps after which its cost so far is noted."""

BACKWARD = 3.0
"""A training step costs about this many forward passes of the student."""

GENERATION = 6.0
"""A token that is generated costs about as much as so many that are read."""


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
        written: answers that the student writes on on-policy steps.
        learned: how often it learns from one of them.
        generated_tokens: tokens of these answers, if they are as long as the data's.
        rollout_bytes: of the disk, what answers take that are learned from again, at most.
        at_most: whether training may write less: that is decided on the way.
        weighed_tokens: tokens of prompts and answers that the student reads to weigh them.
        course: share of the cost that is done after each hundredth of the steps, from 0 to 1.
    """

    tokens: int
    teacher_tokens: int
    seconds: float | None
    memory_bytes: int
    disk_bytes: int
    store_bytes: int
    baseline_seconds: float | None
    written: int = 0
    learned: int = 0
    generated_tokens: int = 0
    rollout_bytes: int = 0
    at_most: bool = False
    weighed_tokens: int = 0
    course: tuple[float, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The estimate as plain values, without its course."""
        return {name: value for name, value in asdict(self).items() if name != "course"}


@dataclass(frozen=True)
class Scale:
    """Sizes that an estimate needs.

    Attributes:
        parameters: of the student.
        trainable: parameters with gradients and optimizer state.
        teacher_parameters: of the teacher; 0 without one.
        memory: of one process, see ``training_memory``.
        forward_tokens_per_second: of the student on this machine; None when not measured.
        checkpoints: how many are kept.
        signal: where the teacher's distributions come from: live, hidden or topk.
        tokens_to_store: tokens that the teacher still has to read for its store.
        store_bytes: disk that the store still needs.
        reuse: which visits write and which learn once more; None where no step is on-policy.
        rollout_bytes: disk of one answer that is kept, at most.
        mends: whether the teacher reads answers as they are written.
        weighs: whether the student weighs answers by how likely they are now.
    """

    parameters: int
    trainable: int
    teacher_parameters: int
    memory: int
    forward_tokens_per_second: float | None
    checkpoints: int
    signal: str = "live"
    tokens_to_store: int = 0
    store_bytes: int = 0
    reuse: ReusePlan | None = None
    rollout_bytes: int = 0
    mends: bool = False
    weighs: bool = False


def estimate(
    plan: Plan,
    lengths: NDArray[np.int64],
    scale: Scale,
    answers: NDArray[np.int64] | None = None,
) -> Cost:
    """Estimate a plan from the length of each example and the speed of the student's forward pass.

    Args:
        plan: the plan.
        lengths: tokens of each example, in the order of ``plan.ids``.
        scale: sizes and measured speed.
        answers: tokens of each example's answer, likewise; the student's are taken to be as long.
    """
    per_visit = lengths[plan.visits]
    step_of_visit = np.repeat(np.arange(plan.total_steps), np.diff(plan.offsets))
    tokens = int(per_visit.sum())
    live = scale.signal == "live"
    asks = plan.takes_logits[step_of_visit]
    writes = np.zeros(len(per_visit), dtype=bool)
    if scale.reuse is not None:
        writes = scale.reuse.source == np.arange(len(per_visit))
        asks &= writes | (scale.reuse.source < 0)  # what it said of a kept answer is kept, too
    generated = 0 if answers is None else int(answers[plan.visits][writes].sum())
    teacher_tokens = int(per_visit[asks].sum()) if live else scale.tokens_to_store
    weighed = 0
    if scale.weighs and scale.reuse is not None:
        weighed = int(per_visit[scale.reuse.source >= 0].sum())
    ratio = scale.teacher_parameters / max(scale.parameters, 1)
    seconds = baseline_seconds = None
    if scale.forward_tokens_per_second:
        forwards = weighed + BACKWARD * tokens + ratio * teacher_tokens + GENERATION * generated
        # Token by token instead of at once.
        forwards += ratio * (GENERATION - 1) * generated * scale.mends
        seconds = forwards / scale.forward_tokens_per_second
        plain = lengths.mean() * plan.baseline_steps * plan.batch_size
        share = ratio * (plain if live and teacher_tokens else teacher_tokens)
        baseline_seconds = (plain * BACKWARD + share) / scale.forward_tokens_per_second
    # A checkpoint holds the weights and Adam's two moments; one more is there while it is written.
    checkpoint = 4 * scale.parameters + 8 * scale.trainable
    disk = (scale.checkpoints + 1) * checkpoint + 2 * 4 * scale.parameters + scale.store_bytes
    rollouts = 0 if scale.reuse is None else scale.reuse.most_kept(plan) * scale.rollout_bytes
    return Cost(
        tokens,
        teacher_tokens,
        seconds,
        scale.memory,
        int(disk + rollouts),
        scale.store_bytes,
        baseline_seconds,
        written=0 if scale.reuse is None else scale.reuse.num_written,
        learned=0 if scale.reuse is None else scale.reuse.num_learned,
        generated_tokens=generated,
        rollout_bytes=int(rollouts),
        weighed_tokens=weighed,
        course=_course(
            plan,
            BACKWARD * per_visit
            + ratio * per_visit * (asks if live else 0)
            + (0 if answers is None else GENERATION * answers[plan.visits] * writes),
        ),
    )


def _course(plan: Plan, each: NDArray[np.float64]) -> tuple[float, ...]:
    """The share of the cost of all visits that is done after each hundredth of the steps."""
    total = np.concatenate([[0.0], np.cumsum(each)])[plan.offsets]
    if not total[-1]:
        return ()
    steps = np.linspace(0, plan.total_steps, _COURSE + 1)
    shares = np.interp(steps, np.arange(plan.total_steps + 1), total / total[-1])
    return tuple(round(float(share), 4) for share in shares)


def cost_of(session: Session, arm: str) -> Cost:
    """An estimate of what training an arm will take."""
    recipe = session.loaded.arms[arm]
    rows = rows_of(session, "train")
    lengths = stored_lengths(rows, NUM_TOKENS)
    student, teacher = session.models.student_size, session.models.teacher_size
    speed = read_json(session.part("difficulty/summary.json")).get("tokens_per_second")
    training = recipe.training
    signal = decide_signals(session).get(arm, LIVE)
    needs = store_needs(session, arm, signal) if signal != LIVE else []
    plan = load_plan(_carried_out(session, arm))
    scale = Scale(
        parameters=student.parameters,
        trainable=trainable(student, recipe),
        teacher_parameters=0 if teacher is None else teacher.parameters,
        memory=_memory(session, recipe, int(lengths.max()), live=signal == LIVE),
        forward_tokens_per_second=speed,
        checkpoints=training.keep_checkpoints,
        signal=signal,
        tokens_to_store=sum(need.tokens for need in needs),
        store_bytes=sum(need.bytes for need in needs),
        reuse=reuse_of(session, recipe, plan),
        rollout_bytes=rollout_bytes(session, recipe) if plan.on_policy.any() else 0,
        mends=recipe.on_policy.is_used and recipe.on_policy.teacher_top_k is not None,
        weighs=recipe.on_policy.importance is not None,
    )
    order = stored_texts(rows, "id").locate(plan.ids)
    answers = None
    if scale.reuse is not None:
        prompts = stored_lengths(rows, "num_prompt_tokens")
        answers = np.minimum(lengths - prompts, recipe.on_policy.max_new_tokens)[order]
    found = estimate(plan, lengths[order], scale, answers)
    return replace(found, at_most=recipe.on_policy.rule is not None)


def _memory(session: Session, recipe: Recipe, longest: int, *, live: bool) -> int:
    """Bytes of one process that trains an arm, at a micro-batch of its longest rows."""
    student, teacher = session.models.student_size, session.models.teacher_size
    return memory_of_arm(
        recipe, student, teacher, longest, live=live, processes=session.processes.count
    ).total


def memory_of_arm(
    recipe: Recipe,
    student: ModelSize,
    teacher: ModelSize | None,
    longest: int,
    *,
    live: bool,
    processes: int = 1,
) -> Memory:
    """Memory of one process that trains an arm, at a micro-batch of its longest rows.

    Args:
        recipe: of the arm.
        student: its size.
        teacher: that of the teacher; None without one.
        longest: tokens of the longest row.
        live: whether the teacher runs beside the student.
        processes: how many share the training.
    """
    training = recipe.training
    tokens = training.micro_batch_size * longest
    if training.micro_batch_tokens is not None:
        tokens = min(tokens, max(training.micro_batch_tokens, longest))
    return training_memory(
        _sizes(student),
        None if teacher is None else _sizes(teacher),
        trainable=trainable(student, recipe),
        tokens=tokens,
        live=live,
        precision=training.precision,
        checkpointed=training.gradient_checkpointing,
        tile_tokens=training.tile_tokens,
        processes=processes,
        shard=training.shard,
    )


def _sizes(size: ModelSize) -> Sizes:
    return Sizes(
        size.parameters,
        size.outside,
        size.layers,
        size.hidden_size,
        size.vocab_size,
        size.bytes // max(size.parameters, 1),
    )


def _carried_out(session: Session, arm: str) -> Path:
    """The plan that an arm carries out: the last one, or the first while that is not whole."""
    last = plan_folder(session.part(f"arms/{arm}"))
    name = last.relative_to(session.run.path).as_posix()
    return last if session.run.whole(name) else session.part(f"arms/{arm}/plan")


def trainable(size: ModelSize, recipe: Recipe) -> int:
    """Parameters with gradients; for LoRA two thin matrices for each of about seven linear maps."""
    lora = recipe.training.lora
    if lora is None:
        return size.parameters
    return min(size.parameters, 7 * size.layers * 2 * lora.rank * size.hidden_size * 2)


def check_disk(session: Session) -> None:
    """Refuse to start what the disk cannot hold; note what was estimated, for who looks on.

    Raises:
        RunFolderError: less space is free than the checkpoints and students will take.
    """
    found = {arm: cost_of(session, arm) for arm in session.loaded.arms}
    costs = list(found.values())
    shared = max(cost.store_bytes for cost in costs)
    need = sum(cost.disk_bytes - cost.store_bytes for cost in costs) + shared
    free = shutil.disk_usage(session.run.path).free
    if free < need:
        raise RunFolderError(
            f"The run needs about {size_text(need)} of disk and {size_text(free)} are free in"
            f" '{session.run.path}'. Free some space, lower training.keep_checkpoints, or choose"
            " another disk with --set output=FOLDER."
        )
    arms = {arm: {"seconds": cost.seconds, "course": cost.course} for arm, cost in found.items()}
    write_sealed(session.run.path / FILE, {"arms": arms})
