"""The machine: processor, GPU, memory, disk, and how long it will take."""

import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tutelage.data.collate import collate, padding_id
from tutelage.doctor.finding import Finding
from tutelage.doctor.patient import Patient
from tutelage.doctor.room import free_memory
from tutelage.files import nearest_folder
from tutelage.models.adapters import add_adapters
from tutelage.models.head import batch_hidden, head_logits
from tutelage.models.products import fast_in
from tutelage.pipeline.context.display import size_text
from tutelage.pipeline.context.models import autocast_dtype, device
from tutelage.pipeline.context.precision import slow_precision
from tutelage.pipeline.stages.cost import GENERATION, memory_of_arm, trainable
from tutelage.pipeline.stages.memory import memory_of, too_little
from tutelage.pipeline.stages.plan import compile_recipe
from tutelage.pipeline.stages.store import learns_distributions
from tutelage.recipe import Recipe
from tutelage.report.quantities import duration
from tutelage.teachers import StoreSpec
from tutelage.teachers.store import store_bytes
from tutelage.training.half import still_share
from tutelage.types import DifficultyProfile

_TILE_BYTES = 256 << 20
"""Of logits that are measured with at once; the rest of a micro-batch is left out."""

_ENOUGH = 10.0
"""Seconds of a pass after which it is not made again."""

_LONG = 24 * 3600.0
"""Seconds above which training is said to take long."""


def processor(patient: Patient) -> Iterator[Finding]:
    """What computes here."""
    here = device()
    if here.type == "cuda":
        found = torch.cuda.get_device_properties(here)
        yield Finding(
            "ok",
            f"{torch.cuda.device_count()} GPU: {found.name}, {size_text(found.total_memory)}"
            f" ({size_text(torch.cuda.mem_get_info()[0])} free), CUDA {torch.version.cuda}",
            numbers={"memory": found.total_memory, "capability": [found.major, found.minor]},
        )
        return
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    yield Finding(
        "ok",
        f"no GPU is used; {cores} cores ({threads} threads), instructions up to"
        f" {torch.backends.cpu.get_cpu_capability()}",
        numbers={"cores": cores, "threads": threads},
    )
    if torch.version.cuda is None and Path("/proc/driver/nvidia/version").exists():
        yield Finding(
            "warning",
            "this machine has an NVIDIA GPU, and the installed torch is one for CPUs alone",
            "install torch with CUDA, as https://pytorch.org/get-started says",
        )
    if patient.student_size.parameters > 1e9:
        yield Finding(
            "warning",
            f"a student of {patient.student_size.parameters / 1e9:.1f}B parameters on a CPU takes"
            " days",
            "use a GPU, or a smaller student (student.layers)",
        )


def precision(patient: Patient) -> Iterator[Finding]:
    """Types of products that this machine has no instructions for, and weights that stay still."""
    arms = dict(patient.arms())
    if slow := slow_precision(arms.values()):
        yield Finding("error", slow, "training.precision=float32 and so on, as it says")
    else:
        asked = sorted({arm.training.precision for arm in arms.values()})
        yield Finding("ok", f"products in {', '.join(asked)} are fast here")
    here = device()
    fast = here.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if fast and all(arm.training.precision == "float32" for arm in arms.values()):
        yield Finding(
            "note",
            "products are in float32, and this GPU is several times as fast in bfloat16",
            "training.precision=bfloat16",
        )
    step = patient.recipe.rounded_step
    if step is not None and "student" in patient.__dict__:
        share = still_share(patient.student, step)
        if share > 0.01:
            yield Finding(
                "warning",
                f"the student's weights are bfloat16, where a step of {step:g} is rounded away on"
                f" {share:.0%} of them",
                "student.dtype=float32 with training.precision=bfloat16",
                {"still": share},
            )


def _live(recipe: Recipe) -> bool:
    """Whether a teacher is in memory beside the student, as far as that is known before a plan."""
    return learns_distributions(recipe) and any(
        teacher.signal in ("live", "auto") for teacher in recipe.ladder.values()
    )


def memory(patient: Patient) -> Iterator[Finding]:
    """What training takes by the plan's formula, beside what there is."""
    lengths = np.asarray(patient.tokenized["train"].dataset["num_tokens"])
    there, free = memory_of(device()), free_memory()
    for name, recipe in patient.arms():
        need = memory_of_arm(
            recipe,
            patient.student_size,
            patient.teacher_size if learns_distributions(recipe) else None,
            int(lengths.max()),
            live=_live(recipe),
        )
        said = (
            f"{name}: about {size_text(need.total)} in training (weights {size_text(need.weights)},"
            f" gradients and optimizer {size_text(need.gradients + need.optimizer)}, teacher"
            f" {size_text(need.teacher)}, activations {size_text(need.activations)})"
        )
        numbers = {"arm": name, "need": need.total, "there": there, "free": free}
        if lacking := too_little(need.total, there):
            yield Finding("error", f"{said}: {lacking.partition('. ')[0]}",
                          lacking.partition(". ")[2], numbers)  # fmt: skip
        elif free is not None and need.total > free:
            yield Finding(
                "warning",
                f"{said}; there are {size_text(there or 0)}, and now {size_text(free)} are free",
                "end other programs, or set training.gradient_checkpointing=true",
                numbers,
            )
        else:
            yield Finding("ok", f"{said}; {size_text(free or there or 0)} are free",
                          numbers=numbers)  # fmt: skip


def disk(patient: Patient) -> Iterator[Finding]:
    """Stores, checkpoints and students, beside the room on the disk."""
    recipe, size = patient.recipe, patient.student_size
    store = 0
    kinds = {teacher.signal for teacher in recipe.ladder.values()}
    learned = any(learns_distributions(arm) for _, arm in patient.arms())
    if learned and kinds - {"live"} and patient.teacher_size is not None:
        store = _store_bytes(patient)
    checkpoints = sum(
        (arm.training.keep_checkpoints + 1) * (4 * size.parameters + 8 * trainable(size, arm))
        + 8 * size.parameters
        for _, arm in patient.arms()
    )
    output = nearest_folder(Path(recipe.output))
    free = shutil.disk_usage(output).free
    need = store + checkpoints
    said = (
        f"about {size_text(need)} (checkpoints and students {size_text(checkpoints)}, teacher"
        f" store {size_text(store) if store else 'none'}); {size_text(free)} are free in"
        f" '{output}'"
    )
    numbers = {"need": need, "store": store, "checkpoints": checkpoints, "free": free}
    if need > free and checkpoints <= free and kinds == {"auto"}:
        yield Finding(
            "warning",
            f"{said}: the teacher will not be stored, but run beside the student",
            "output=FOLDER or teacher.store=FOLDER on another disk, or teacher.signal=topk",
            numbers,
        )
    elif need > free:
        yield Finding(
            "error",
            said,
            "output=FOLDER on another disk, training.keep_checkpoints=1, teacher.signal=topk or"
            " live",
            numbers,
        )
    else:
        yield Finding("note" if need > free / 2 else "ok", said, numbers=numbers)


def _store_bytes(patient: Patient) -> int:
    """What a teacher's store takes for all of the data."""
    recipe, size = patient.recipe, patient.teacher_size
    assert size is not None, "asked by who knows it"
    teacher = list(recipe.ladder.values())[-1]
    tokens = rows = 0
    for split in ("train", "validation", "test"):
        if split not in patient.tokenized:
            continue
        summary, there = patient.tokenized[split].summary, len(patient.splits[split].examples)
        tokens += round(summary["response_tokens"] / max(summary["loaded"], 1) * there)
        rows += there
    half = "bfloat16" in (teacher.dtype, recipe.training.precision)
    spec = StoreSpec(
        kind="topk" if teacher.signal == "topk" else "hidden",
        teacher={"name": "doctor"},
        tokenizer="",
        vocab_size=patient.models.vocab_size,
        dtype="bfloat16" if half else "float32",
        top_k=teacher.top_k if teacher.signal == "topk" else None,
    )
    return store_bytes(spec, size.hidden_size, tokens, rows)


def time_needed(patient: Patient) -> Iterator[Finding]:
    """An estimate from a measured step of the student, and the teacher's measured pass."""
    if not patient.sample:
        yield Finding("note", "time is not estimated, because no weights are loaded (--sample 0)")
        return
    if "student" not in patient.__dict__:
        yield Finding("note", "time is not estimated, because the student was not loaded")
        return
    need = memory_of_arm(patient.recipe, patient.student_size, patient.teacher_size, 64, live=True)
    if need.total > 0.8 * (free_memory() or math.inf):
        yield Finding("note", "time is not estimated, because a step would not fit into memory")
        return
    with patient.display.task("Measuring a step"):
        step, tokens, rows = measure_step(patient)
    lengths = np.asarray(patient.tokenized["train"].dataset["num_tokens"])
    kept = len(lengths) / max(patient.tokenized["train"].summary["loaded"], 1)
    examples = max(round(kept * len(patient.splits["train"].examples)), 1)
    main = None
    total = 0.0
    for name, recipe in patient.arms():
        plan = _plan(recipe, examples, main)
        main = plan.total_steps if main is None else main
        visits = len(plan.visits) * float(lengths.mean())
        seconds = visits * step
        if learns_distributions(recipe) and "teacher forward" in patient.seconds:
            live = any(t.signal == "live" for t in recipe.ladder.values())
            read = visits if live else examples * float(lengths.mean())
            seconds += min(read, visits) * patient.seconds["teacher forward"]
        own = float(np.diff(plan.offsets)[plan.on_policy].sum()) * float(lengths.mean())
        seconds += own * GENERATION * patient.seconds.get("student forward", step / 3)
        total += seconds
        yield Finding(
            "ok",
            f"{name}: about {duration(seconds)} for {plan.total_steps:,} updates of"
            f" {recipe.training.batch_size} examples",
            numbers={"arm": name, "seconds": seconds, "updates": plan.total_steps},
        )
    yield Finding(
        "note" if total > _LONG else "ok",
        f"in all about {duration(total)} of training on one process, without evaluation"
        f" (measured{_in_float32(patient.recipe)}: the best of up to three forward and backward"
        f" passes of {rows} examples, {tokens:,} tokens,"
        f" {1 / step:,.0f} tokens a second; the optimizer's own step is left out){_busy()}",
        "more processes, a GPU, fewer updates (curriculum.total_steps), fewer controls"
        if total > _LONG
        else "",
        {"seconds": total, "tokens_per_second": 1 / step},
    )


def _in_float32(recipe: Recipe) -> str:
    """A remark where another type was measured with than the recipe says."""
    dtype = autocast_dtype(recipe.training.precision)
    return "" if dtype is None or fast_in(dtype, device()) else " in float32"


def _busy() -> str:
    """A warning that what was measured is too slow, where other programs run."""
    try:
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
    except (AttributeError, OSError):  # not on every system
        return ""
    if load < 1.5 * cores:
        return ""
    return (
        f". Other programs are running (load {load:.0f} on {cores} cores), so alone it may take"
        f" {cores / load:.0%} of that"
    )


def _plan(recipe: Recipe, examples: int, steps: int | None) -> Any:
    """The plan of an arm for so many examples, whose difficulties nobody knows yet."""
    ids = [f"{number:09d}" for number in range(examples)]
    profile = DifficultyProfile(ids, np.linspace(1.0, 2.0, examples))
    return compile_recipe(recipe, profile, steps)


def measure_step(patient: Patient) -> tuple[float, int, int]:
    """Time of a forward and backward pass of the student, for each token.

    The student is not changed: no optimizer makes a step, and gradients are dropped.

    Returns:
        Seconds for each token, tokens of the micro-batch, and its rows.
    """
    training, model = patient.recipe.training, patient.student
    rows = patient.some_rows("train", training.micro_batch_size)
    inputs = collate(list(rows), padding_id(patient.tokenizer))
    tokens = int(inputs["attention_mask"].sum())
    if training.lora is not None:
        model = add_adapters(model, training.lora)
    if training.gradient_checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    here = device()
    dtype = autocast_dtype(training.precision)
    if dtype is not None and not fast_in(dtype, here):
        dtype = None  # emulated products would take minutes
    most = max(1, _TILE_BYTES // (4 * patient.models.vocab_size))
    best = math.inf
    model.train()
    for _ in range(3):
        started = time.perf_counter()
        with torch.autocast(here.type, dtype, enabled=dtype is not None):
            hidden_NH, targets_N = batch_hidden(model, inputs)
            logits_NV = head_logits(model, hidden_NH[:most], patient.models.vocab_size)
            loss = torch.nn.functional.cross_entropy(logits_NV.float(), targets_N[:most])
        # Rows beyond the tile have their part of the backward pass, too.
        (loss + 0.0 * hidden_NH.float().sum()).backward()
        if here.type == "cuda":
            torch.cuda.synchronize()
        spent = time.perf_counter() - started
        best = min(best, spent)
        model.zero_grad(set_to_none=True)
        if spent > _ENOUGH:
            break
    model.eval()
    if training.lora is not None:
        patient.__dict__["student"] = model.unload()
    return best / max(tokens, 1), tokens, len(rows)
