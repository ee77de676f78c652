"""The stored teacher of the benchmarks: the one place to change when the store's name or form does.

The adapter below holds what a store on disk holds (last hidden states of response tokens in 16 bits
by example id, and the output head) in memory. It speaks the ``TeacherSignal`` protocol.
"""

import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data.collate import collate, length_batches
from tutelage.teachers import LiveTeacher, TeacherSignal


class _InMemory:
    """Hidden states by example id, and a head."""

    def __init__(self, states: dict[str, Tensor], head: LiveTeacher) -> None:
        self.states = states
        self._head = head

    def hidden(
        self, ids: Sequence[str], input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> Tensor:
        """Stored states of the rows, in reading order, shape ``[N, H]``."""
        return torch.cat([self.states[one] for one in ids]).float()

    def log_probs(self, hidden_NH: Tensor, temperature: float) -> Tensor:
        """As a live teacher's."""
        return self._head.log_probs(hidden_NH, temperature)


def head_signal(model: nn.Module, vocab_size: int, autocast: torch.dtype | None) -> LiveTeacher:
    """A signal that only turns hidden states into log-probabilities; the layers are let go."""
    shell: Any = copy.copy(model)
    shell._modules = dict(model._modules)
    body = copy.copy(shell.model)
    body._modules = {**body._modules, "layers": nn.ModuleList()}
    shell._modules["model"] = body
    return LiveTeacher(shell, vocab_size, autocast)


def stored_signal(
    teacher: nn.Module,
    rows: Any,
    vocab_size: int,
    autocast: torch.dtype | None,
    folder: Path,
    batch_tokens: int = 4096,
) -> tuple[TeacherSignal, float]:
    """Run the teacher once over the rows and keep what a store keeps.

    Args:
        teacher: the teacher's model.
        rows: a data set with ``id``, ``input_ids`` and ``labels``.
        vocab_size: number of real tokens.
        autocast: type of the teacher's matrix products; None for its own.
        folder: where a store on disk would be; this adapter writes nothing there.
        batch_tokens: tokens of a batch of the teacher's pass.

    Returns:
        The signal, and the seconds that building it took.
    """
    start = time.perf_counter()
    live = LiveTeacher(teacher, vocab_size, autocast)
    states: dict[str, Tensor] = {}
    columns = rows.select_columns(["id", "input_ids", "labels"])
    lengths = [len(tokens) for tokens in columns["input_ids"]]
    for batch in length_batches(lengths, max_tokens=batch_tokens):
        some = [columns[i] for i in batch]
        inputs = collate(some, 0)
        hidden = live.hidden([], **inputs).bfloat16()
        counts = (inputs["labels"][:, 1:] != -100).sum(1).tolist()
        for row, part in zip(some, hidden.split(counts), strict=True):
            states[row["id"]] = part.clone()
    signal = _InMemory(states, head_signal(teacher, vocab_size, autocast))
    return signal, time.perf_counter() - start


def store_bytes(signal: TeacherSignal, folder: Path) -> dict[str, float]:
    """Bytes of the folder's files without the head, and the arithmetic they are held against."""
    assert isinstance(signal, _InMemory)
    tokens = sum(len(one) for one in signal.states.values())
    width = next(iter(signal.states.values())).shape[-1]
    held = sum(one.numel() * one.element_size() for one in signal.states.values())
    on_disk = sum(f.stat().st_size for f in folder.rglob("*") if "head" not in f.name)
    return {"tokens": tokens, "expected": 2 * width * tokens, "found": on_disk or held}
