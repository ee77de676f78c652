"""Weights in 16 bits: how many of them a small step cannot move."""

import torch
from torch import nn

_LOOKED_AT = 1 << 16


@torch.no_grad()
def still_share(model: nn.Module, step: float) -> float:
    """Share of the trainable weights that are in 16 bits and too large for a step to change.

    A bfloat16 number of size x can change by x/128 to x/256 and by nothing less: half of that is
    rounded away, at every step anew.

    Args:
        model: the model.
        step: size of a step; with Adam that is about the learning rate.
    """
    still = total = 0.0
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        total += parameter.numel()
        if parameter.dtype in (torch.bfloat16, torch.float16):
            some = parameter.detach().flatten()[:: max(1, parameter.numel() // _LOOKED_AT)]
            still += parameter.numel() * float(((some + step) == some).float().mean())
    return still / total if total else 0.0


def half_precision_note(model: nn.Module, learning_rate: float) -> str:
    """What to tell a person whose student is held in 16 bits; empty where it loses nothing."""
    share = still_share(model, learning_rate)
    if share < 0.01:
        return ""
    return (
        f"The student's weights are in 16 bits, where a step of the learning rate {learning_rate:g}"
        f" is rounded away on {share:.0%} of them. Load the student in float32 (dtype=float32) and"
        " set bf16=True: then products are in 16 bits, and the weights keep every step."
    )
