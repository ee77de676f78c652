"""Which models can run a batch without its padding, found out by trying."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tutelage.models.head import causal_lm, head_size, response_hidden
from tutelage.models.packed_attention import (
    CHECKED_WINDOW,
    attends_in_one_call,
    attention_window,
    can_pack_attention,
    longest_packed_row,
    restore_attention,
    uses_packed_attention,
)


@torch.no_grad()
def supports_packing(model: nn.Module) -> bool:
    """Whether ``response_hidden(..., packed=True)`` gives what a padded pass gives.

    A few short rows are run both ways and the hidden states compared. State-space models and
    convolutions that look across the border of two rows, positions that are not given by
    ``position_ids``, and attention of a kind that is not known here are all found out by that. The
    model is left as it was. Ask once for each model and keep the answer.

    Args:
        model: a causal language model, possibly inside LoRA wrappers.
    """
    lm = causal_lm(model)
    if not can_pack_attention(lm):
        return False
    was_packed = uses_packed_attention(lm)
    rows = _trial_rows(model)
    with _evaluation_mode(model):
        try:
            expected_NH, _ = response_hidden(model, *rows)
            packed_NH, _ = response_hidden(model, *rows, packed=True)
        except Exception:
            # Whatever an architecture raises when it is given lengths for a mask, it means no.
            return False
        finally:
            if not was_packed:
                restore_attention(lm)
    tolerance = 1e-3 if expected_NH.dtype in (torch.float32, torch.float64) else 5e-2
    error_N = (packed_NH.double() - expected_NH.double()).norm(dim=-1)
    # Token by token: only the first tokens of a row see much of a state that leaks into it.
    return bool((error_N <= tolerance * expected_NH.double().norm(dim=-1)).all())


def runs_packed(
    model: nn.Module,
    device: torch.device,
    padding_free: bool | None = None,
    autocast_dtype: torch.dtype | None = None,
) -> bool:
    """Whether training runs a model without padding: where that is wanted, and the model can.

    Args:
        model: a causal language model, possibly inside LoRA wrappers.
        device: where it will run.
        padding_free: what the user says; None for yes on a CPU, yes on a GPU where all rows of a
            batch attend in one call, and no elsewhere, where attention goes row by row.
        autocast_dtype: type of the model's products; None for its own.
    """
    wanted = padding_free
    if wanted is None:
        wanted = device.type == "cpu" or attends_in_one_call(
            causal_lm(model), device, autocast_dtype or next(model.parameters()).dtype
        )
    return wanted and supports_packing(model)


@contextlib.contextmanager
def packing(model: nn.Module, longest: int | None = None) -> Iterator[bool]:
    """Say whether to pack within the block, and leave the model's attention as it was.

    For passes that only measure. In training, the backward pass may need the attention function
    after the block, so there ``supports_packing`` is the one to use.

    Args:
        model: a causal language model, possibly inside LoRA wrappers.
        longest: tokens of the longest row, so that batches may rely on the answer. Without it,
            batches with a row too long for the model's attention window are run padded.
    """
    lm = causal_lm(model)
    limit = longest_packed_row(lm)
    fits = limit is None or longest is None or longest <= limit
    supported = fits and supports_packing(model)
    was_packed = supported and uses_packed_attention(lm)
    try:
        yield supported
    finally:
        if supported and not was_packed:
            restore_attention(lm)


def _trial_rows(model: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """A padded batch with rows of several lengths, two of them equal, all of it labelled."""
    lm = causal_lm(model)
    lengths = [5, 11, 11, 3]
    window = attention_window(lm)
    if window is not None and window <= CHECKED_WINDOW:
        # By half a window, so that a layer without it would see much that it should not.
        lengths.append(window + window // 2 + 3)
    most = getattr(lm.config.get_text_config(), "max_position_embeddings", None)
    lengths = [min(length, most or length) for length in lengths]
    ids_BT = torch.arange(len(lengths) * max(lengths)).view(len(lengths), -1)
    # Neighbours differ, and so do rows: equal tokens would hide that one attends to the other.
    ids_BT = (ids_BT * 7).remainder(min(head_size(model), 1000))
    mask_BT = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()
    labels_BT = ids_BT.masked_fill(mask_BT == 0, -100)
    device = next(model.parameters()).device
    return ids_BT.to(device), mask_BT.to(device), labels_BT.to(device)


@contextlib.contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a block; afterwards every module has its own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training
