"""Moving tensors to where they are needed. Torch alone."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; one that goes to a GPU is on its way, and nobody waits for it.

    A copy from ordinary memory waits until the GPU has done all that was asked of it before. From
    pinned memory it takes its turn, as long as nobody writes to what is sent.

    Args:
        tensor: on any device.
        device: where it is wanted.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
