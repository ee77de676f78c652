"""The stored teacher of the benchmarks: the store as a user's run has it, on disk."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tutelage.teachers import (
    StoredTeacher,
    StoreSpec,
    TeacherSignal,
    TeacherStore,
    begin_store,
    fill_store,
)


def stored_signal(
    teacher: nn.Module,
    rows: Any,
    vocab_size: int,
    autocast: torch.dtype | None,
    folder: Path,
    batch_tokens: int = 4096,
) -> tuple[TeacherSignal, float]:
    """Run the teacher once over the rows, write what it says, and open the store.

    Args:
        teacher: the teacher's model.
        rows: a data set with ``id``, ``input_ids`` and ``labels``.
        vocab_size: number of real tokens.
        autocast: type of the teacher's matrix products; None for its own.
        folder: where the store goes.
        batch_tokens: tokens of a batch of the teacher's pass.

    Returns:
        The signal, and the seconds that building, verifying and opening took.
    """
    start = time.perf_counter()
    dtype = "float32" if autocast is None else "bfloat16"
    spec = StoreSpec("hidden", {"name": "benchmark"}, "benchmark", vocab_size, dtype)
    columns = rows.select_columns(["id", "input_ids", "labels"])
    begin_store(folder, spec, teacher)
    fill_store(folder, spec, teacher, columns, batch_tokens=batch_tokens, autocast_dtype=autocast)
    signal = StoredTeacher(TeacherStore(folder, spec), columns)
    return signal, time.perf_counter() - start


def store_bytes(signal: TeacherSignal, folder: Path) -> dict[str, float]:
    """Bytes of the folder's files without the head, and the arithmetic they are held against."""
    assert isinstance(signal, StoredTeacher)
    manifest = signal.store.manifest
    width = manifest["hidden_size"] * (2 if manifest["dtype"] == "bfloat16" else 4)
    found = sum(f.stat().st_size for f in folder.rglob("*") if "head" not in f.name)
    return {
        "tokens": signal.store.tokens,
        "expected": width * signal.store.tokens,
        "found": found,
    }
