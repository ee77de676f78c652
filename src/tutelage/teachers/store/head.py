"""The teacher's output head by itself: all of the teacher that stays in memory while training."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from tutelage.errors import ModelError, StoreError
from tutelage.files import atomic_write_bytes
from tutelage.models.head import LogitTransform, logit_transform, output_head
from tutelage.proofs import file_crc32

FILE = "head.safetensors"

# Shape suffixes: n tokens, H hidden, V vocabulary.


class StoredHead(nn.Module):
    """A linear map from last hidden states to logits, and what the model does to them after it.

    Args:
        weight_VH: the map, cut to the real vocabulary.
        bias_V: added to the logits, or None.
        transform: scale and soft cap.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight_VH: Tensor, bias_V: Tensor | None, transform: LogitTransform) -> None:
        super().__init__()
        self.register_buffer("weight", weight_VH)
        self.register_buffer("bias", bias_V)
        self.transform = transform


def take_head(model: nn.Module, vocab_size: int, dtype: torch.dtype) -> StoredHead:
    """A copy of a model's head on the CPU.

    Args:
        model: a causal language model.
        vocab_size: number of real tokens; rows beyond them are left out.
        dtype: type of the copy.

    Raises:
        ModelError: the head is not a linear map.
    """
    head: Any = output_head(model)
    if not isinstance(getattr(head, "weight", None), Tensor):
        raise ModelError(
            f"The output head of {type(model).__name__} is no linear map, so it cannot be stored."
            " Use teacher.signal: live."
        )
    bias = getattr(head, "bias", None)
    weight = head.weight.detach()[:vocab_size].to(device="cpu", dtype=dtype, copy=True)
    if bias is not None:
        bias = bias.detach()[:vocab_size].to(device="cpu", dtype=dtype, copy=True)
    return StoredHead(weight, bias, logit_transform(model))


def head_content(head: StoredHead) -> bytes:
    """A head as the content of a safetensors file."""
    tensors = {"weight": head.weight.contiguous()}
    if head.bias is not None:
        tensors["bias"] = head.bias.contiguous()
    return save(tensors)


def write_head(folder: Path, content: bytes) -> None:
    """Write a head into a store."""
    atomic_write_bytes(folder / FILE, content)


def read_head(folder: Path, transform: dict[str, float | None], checksum: int) -> StoredHead:
    """The head of a store.

    Raises:
        StoreError: it is missing, or was changed since it was written.
    """
    path = folder / FILE
    if not path.is_file() or file_crc32(path) != checksum:
        raise StoreError(
            f"The teacher's head '{path}' is missing, changed or damaged. Delete the folder"
            f" '{folder}' and give the same command again; the store is made anew."
        )
    tensors = load(path.read_bytes())
    return StoredHead(tensors["weight"], tensors.get("bias"), LogitTransform(**transform))
