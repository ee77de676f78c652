"""A teacher that runs beside the student."""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.models.head import (
    LogitTransform,
    causal_lm,
    check_head,
    logit_transform,
    output_head,
    response_hidden,
)
from tutelage.models.packing import runs_packed
from tutelage.models.projection import projection
from tutelage.models.shards import shard
from tutelage.numerics import as_float


@dataclass(frozen=True)
class LogitTile:
    """A tile whose logits are in memory.

    Attributes:
        logits_nV: what the linear map of the head gives, in float32 or better.
        transform: what the model does to them.
    """

    logits_nV: Tensor
    transform: LogitTransform

    kept_nK = None

    def log_probs(self, rows: slice, temperature: float) -> Tensor:
        """Float32 log-probabilities over the real vocabulary, shape ``[r, V]``."""
        logits_rV = self.transform(as_float(self.logits_nV[rows]))
        if temperature != 1.0:
            logits_rV = logits_rV / temperature
        return logits_rV.log_softmax(-1)


class _Head(nn.Module):
    """Of a model no more than makes logits of hidden states: the same head, in the same memory.

    Args:
        model: a causal language model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.config: Any = causal_lm(model).config
        self.head = output_head(model)

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.head


class LiveTeacher:
    """The signal of a model in memory; it is frozen, in evaluation mode and never trained.

    Args:
        model: a causal language model.
        vocab_size: number of real tokens that it shares with the student.
        autocast_dtype: run the teacher's matrix products in this type; None for its own.
        packed: run batches without padding; only for a model that ``supports_packing``.
        again: gives the model once more, so that it may rest in between; whoever gives it must
            hold it nowhere else. None: it stays.
    """

    def __init__(
        self,
        model: nn.Module,
        vocab_size: int,
        autocast_dtype: torch.dtype | None = None,
        *,
        packed: bool = False,
        again: Callable[[], nn.Module] | None = None,
    ) -> None:
        self._model = model.eval().requires_grad_(False)
        self._again = again
        self.vocab_size = vocab_size
        self._autocast_dtype = autocast_dtype
        self._packed = packed
        self._device_type = next(model.parameters()).device.type

    def cut(self, device: torch.device) -> "LiveTeacher":
        """The same teacher, in parts over all processes, which must ask it equally often.

        Args:
            device: of this process; the model may be elsewhere, and no more than a part and a
                layer of it is ever there.

        Raises:
            ConfigError: see ``models.shards.shard``.
        """
        shard(self._model, device)
        self._again, self._device_type = None, device.type
        return self

    @property
    def model(self) -> nn.Module:
        """The whole model, loaded again where it rests."""
        if self._again is not None and isinstance(self._model, _Head):
            self._model = self._again().eval().requires_grad_(False)
        return self._model

    def rest(self) -> None:
        """Let go of all but the head, if it can be loaded again when there is more to be read."""
        if self._again is not None and not isinstance(self._model, _Head):
            self._model = _Head(self._model)
            gc.collect()  # models hold themselves in circles

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self._device_type, self._autocast_dtype, enabled=self._autocast_dtype is not None
        )

    @torch.no_grad()
    def encode(
        self, ids: Sequence[str], input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> Tensor:
        """Hidden states that predict the response tokens, shape ``[N, H]``; ids are not needed."""
        with self._autocast():
            hidden_NH, _ = response_hidden(
                self.model, input_ids, attention_mask, labels, packed=self._packed
            )
        return hidden_NH

    def tiles(self, hidden_NH: Tensor, tile_tokens: int) -> Iterator[LogitTile]:
        """Logits of so many tokens at a time, in memory that the next tile uses again."""
        head = projection(self._model, self.vocab_size, self._autocast_dtype)
        transform = logit_transform(self._model)
        for hidden_nH in hidden_NH.split(tile_tokens):
            yield LogitTile(head.logits(hidden_nH), transform)


def live_teacher(
    model: nn.Module,
    vocab_size: int,
    autocast_dtype: torch.dtype | None = None,
    *,
    padding_free: bool | None = None,
    again: Callable[[], nn.Module] | None = None,
) -> LiveTeacher:
    """A model as a teacher beside the student, once it is found out how it can be run.

    Args:
        model: a causal language model, on the device where it is to run.
        vocab_size: number of real tokens that it shares with the student.
        autocast_dtype: run the teacher's matrix products in this type; None for its own.
        padding_free: as a recipe says it; see ``runs_packed``.
        again: gives the model once more; see ``LiveTeacher``.

    Raises:
        ModelError: its logits cannot be rebuilt from its hidden states.
    """
    check_head(model)
    device = next(model.parameters()).device
    packed = runs_packed(model, device, padding_free, autocast_dtype)
    return LiveTeacher(model, vocab_size, autocast_dtype, packed=packed, again=again)
