"""How close a student is to its teacher, token by token, on given answers."""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data.collate import collate, length_batches, packed_batches
from tutelage.data.lengths import count_tokens
from tutelage.divergences import forward_kl, reverse_kl
from tutelage.errors import DataError
from tutelage.files import atomic_write_json
from tutelage.models.head import batch_hidden, head_logits
from tutelage.models.packing import packing
from tutelage.teachers import LiveTeacher, TeacherSignal

TILE_TOKENS = 1024
"""Response tokens whose logits are in memory at once."""


@dataclass(frozen=True)
class Agreement:
    """Means over response tokens; divergences and losses in nats per token.

    Attributes:
        forward_kl: KL(teacher || student).
        reverse_kl: KL(student || teacher).
        top1_agreement: share of tokens where both find the same token likeliest.
        student_nll: negative log-probability of the data under the student.
        teacher_nll: negative log-probability of the data under the teacher.
        num_tokens: response tokens.
        num_examples: examples that have one.
    """

    forward_kl: float
    reverse_kl: float
    top1_agreement: float
    student_nll: float
    teacher_nll: float
    num_tokens: int
    num_examples: int


@torch.no_grad()
def teacher_agreement(
    student: nn.Module,
    teacher: nn.Module | TeacherSignal,
    dataset: Any,
    *,
    vocab_size: int,
    batch_tokens: int,
    pad_token_id: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Agreement:
    """Compare the next-token distributions of student and teacher on the data's answers.

    Both are taken over the first ``vocab_size`` entries of their heads, in float32, and never for
    more than ``TILE_TOKENS`` tokens at once.

    Args:
        student: a causal language model; in evaluation mode for the time.
        teacher: a causal language model with the same tokenizer, which may be on another device;
            or any signal that tells all tokens apart, such as stored hidden states.
        dataset: rows with ``input_ids`` and ``labels`` (-100 where a token is not an answer's), and
            ``id`` for a stored teacher.
        vocab_size: number of real tokens.
        batch_tokens: tokens of a batch, padding included if there is any.
        pad_token_id: fills the batches; it is masked out.
        progress: called with (tokens done, tokens in all).

    Raises:
        DataError: no row has a response token, or a label is outside the vocabulary.
    """
    lengths = count_tokens(dataset).tolist()
    asked = [name for name in ("id", "input_ids", "labels") if name in dataset.column_names]
    dataset = dataset.select_columns(asked)
    sums = torch.zeros(5, dtype=torch.float64)
    num_tokens, num_examples, done = 0, 0, 0
    models = [model for model in (student, teacher) if isinstance(model, nn.Module)]
    modes = [(module, module.training) for model in models for module in model.modules()]
    home = next(models[-1].parameters()).device
    try:
        with contextlib.ExitStack() as stack:
            longest = max(lengths, default=0)
            packed = [stack.enter_context(packing(model.eval(), longest)) for model in models]
            signal = (
                _FrozenTeacher(teacher, vocab_size, packed=packed[-1])
                if isinstance(teacher, nn.Module)
                else teacher
            )
            batches = packed_batches if all(packed) else length_batches
            for batch in batches(lengths, max_tokens=batch_tokens):
                rows = [dataset[i] for i in batch]
                inputs = collate(rows, pad_token_id)
                _check_labels(inputs["labels"], vocab_size)
                student_NH, targets_N = batch_hidden(student, inputs, packed=packed[0])
                ids = [row.get("id", "") for row in rows]
                teacher_NH = signal.encode(ids, *(tensor.to(home) for tensor in inputs.values()))
                sums += _batch_sums(student, student_NH, signal, teacher_NH, targets_N, vocab_size)
                num_tokens += len(targets_N)
                num_examples += int((inputs["labels"] >= 0).any(dim=1).sum())
                done += sum(lengths[i] for i in batch)
                if progress is not None:
                    progress(done, sum(lengths))
    finally:
        for module, was_training in modes:
            module.training = was_training
    if not num_tokens:
        raise DataError(
            f"None of the {len(lengths)} rows has a response token, so student and teacher cannot"
            " be compared. Check that the data has answers and that they were not cut off."
        )
    return Agreement(
        *(sums / num_tokens).tolist(), num_tokens=num_tokens, num_examples=num_examples
    )


class _FrozenTeacher(LiveTeacher):
    """A live teacher that leaves its model as it found it."""

    def __init__(self, model: nn.Module, vocab_size: int, *, packed: bool) -> None:
        wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        super().__init__(model, vocab_size, packed=packed)
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


def save_agreement(folder: str | Path, agreement: Agreement) -> None:
    """Write ``agreement.json`` into a folder, wholly or not at all."""
    atomic_write_json(Path(folder) / "agreement.json", asdict(agreement))


def _check_labels(labels_BT: Tensor, vocab_size: int) -> None:
    """Refuse labels without a probability; on a GPU they would end the process."""
    largest = int(labels_BT.max())
    if largest >= vocab_size:
        raise DataError(
            f"The data has the token id {largest}, but the vocabulary compared has {vocab_size}"
            " entries, so that token has no probability. Tokenize the data with the tokenizer of"
            " student and teacher, and give its full size as `vocab_size`."
        )


def _batch_sums(
    student: nn.Module,
    student_NH: Tensor,
    signal: TeacherSignal,
    teacher_NH: Tensor,
    targets_N: Tensor,
    vocab_size: int,
) -> Tensor:
    """Sums over the tokens of a batch, a tile at a time."""
    sums = torch.zeros(5, dtype=torch.float64)
    for number, teacher_tile in enumerate(signal.tiles(teacher_NH, TILE_TOKENS)):
        tile = slice(number * TILE_TOKENS, (number + 1) * TILE_TOKENS)
        student_NV = _log_probabilities(student, student_NH[tile], vocab_size)
        teacher_NV = teacher_tile.log_probs(slice(None), 1.0)
        sums += _tile_sums(teacher_NV.to(student_NV.device), student_NV, targets_N[tile])
    return sums


def _log_probabilities(model: nn.Module, hidden_NH: Tensor, vocab_size: int) -> Tensor:
    return head_logits(model, hidden_NH, vocab_size).log_softmax(-1)


def _tile_sums(teacher_NV: Tensor, student_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Sums over the tokens of a tile in the order of ``Agreement``, float64 on the CPU."""
    targets_N1 = targets_N.unsqueeze(-1)
    parts = (
        forward_kl(teacher_NV, student_NV),
        reverse_kl(teacher_NV, student_NV),
        teacher_NV.argmax(-1) == student_NV.argmax(-1),
        -student_NV.gather(-1, targets_N1),
        -teacher_NV.gather(-1, targets_N1),
    )
    return torch.stack([part.sum(dtype=torch.float64) for part in parts]).cpu()
