"""Both models on the same rows: what each gives the labels, and how far they are apart."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tutelage.data.collate import IGNORED, collate, length_batches
from tutelage.data.lengths import count_tokens
from tutelage.divergences import forward_kl
from tutelage.models.head import batch_hidden, head_logits

_TILE_BYTES = 64 << 20
_BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Compared:
    """Means over the response tokens of each row, in nats; shape ``[N]``.

    Attributes:
        ids: of the rows.
        student_logp: log-probability of the labels under the student.
        teacher_logp: the same under the teacher.
        forward_kl: KL(teacher || student).
        agrees: share of labels that are the teacher's likeliest token.
        student_seconds: of the student's forward pass, for each token.
        teacher_seconds: of the teacher's, likewise.
    """

    ids: tuple[str, ...]
    student_logp: NDArray[np.float64]
    teacher_logp: NDArray[np.float64]
    forward_kl: NDArray[np.float64]
    agrees: NDArray[np.float64]
    student_seconds: float
    teacher_seconds: float

    def by_id(self, values: NDArray[np.float64]) -> dict[str, float]:
        """One of the arrays, by id."""
        return dict(zip(self.ids, values.tolist(), strict=True))


@torch.no_grad()
def compare(
    student: nn.Module,
    teacher: nn.Module,
    rows: Any,
    *,
    vocab_size: int,
    pad_token_id: int,
    progress: Callable[[int, int], None] | None = None,
) -> Compared:
    """Run both models over rows once.

    Args:
        student: in evaluation mode.
        teacher: in evaluation mode, with the same tokens.
        rows: with ``id``, ``input_ids`` and ``labels``, each with something learned.
        vocab_size: number of real tokens, to which both heads are cut.
        pad_token_id: fills the batches.
        progress: called with (rows done, rows in all).
    """
    lengths = count_tokens(rows)
    sums, counts = np.zeros((4, len(rows))), np.zeros(len(rows))
    spent, done = [0.0, 0.0], 0
    for batch in length_batches(lengths, max_tokens=_BATCH_TOKENS):
        inputs = collate([rows[int(i)] for i in batch], pad_token_id)
        found: list[Tensor] = []
        targets_N = inputs["labels"]
        for who, model in enumerate((student, teacher)):
            started = time.perf_counter()
            hidden_NH, targets_N = batch_hidden(model, inputs)
            targets_N = targets_N.cpu()  # and so the time of a GPU is waited for
            spent[who] += time.perf_counter() - started
            found.append(hidden_NH)
        row_N = (inputs["labels"][:, 1:] != IGNORED).nonzero()[:, 0].numpy()
        parts_4N = _of_tokens((student, teacher), found, targets_N, vocab_size)
        for number, part_N in enumerate(parts_4N):
            sums[number, batch] = np.bincount(row_N, weights=part_N, minlength=len(batch))
        counts[batch] = np.bincount(row_N, minlength=len(batch))
        done += len(batch)
        if progress is not None:
            progress(done, len(rows))
    total = max(int(lengths.sum()), 1)
    means = sums / np.maximum(counts, 1)
    student_logp, teacher_logp, divergence, agrees = means
    return Compared(
        tuple(map(str, rows["id"])),
        student_logp,
        teacher_logp,
        divergence,
        agrees,
        spent[0] / total,
        spent[1] / total,
    )


def _of_tokens(
    models: Sequence[nn.Module], hidden: Sequence[Tensor], targets_N: Tensor, vocab_size: int
) -> NDArray[np.float64]:
    """What is summed, for each response token, shape ``[4, N]``; a tile of logits at a time."""
    tile = max(1, _TILE_BYTES // (4 * vocab_size))
    parts = []
    for start in range(0, len(targets_N), tile):
        some = slice(start, start + tile)
        q_NV, p_NV = (
            head_logits(model, hidden_NH[some], vocab_size).float().log_softmax(-1).cpu()
            for model, hidden_NH in zip(models, hidden, strict=True)
        )
        target_N1 = targets_N[some].unsqueeze(-1)
        parts.append(
            torch.stack(
                [
                    q_NV.gather(-1, target_N1).squeeze(-1),
                    p_NV.gather(-1, target_N1).squeeze(-1),
                    forward_kl(p_NV, q_NV),
                    (p_NV.argmax(-1) == targets_N[some]).float(),
                ]
            )
        )
    return torch.cat(parts, dim=1).double().numpy()
