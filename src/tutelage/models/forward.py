"""The forward pass of a model that is asked while it is being trained, or set up for training."""

import contextlib
from collections.abc import Iterator

from torch import nn

from tutelage.models.head import causal_lm

_ROUTERS = "output_router_logits"


@contextlib.contextmanager
def own_forward(model: nn.Module) -> Iterator[None]:
    """Within the block, a model that is being trained runs without its trainer's precision.

    accelerate puts its autocast around ``forward`` itself, inside any autocast that a caller turns
    on or off; so a measurement in another precision needs the forward pass that was there before.

    Args:
        model: a causal language model, possibly inside DDP or LoRA wrappers.
    """
    inner: nn.Module = getattr(model, "module", model)
    around = {id(one): one for one in (inner, causal_lm(model)) if "_original_forward" in vars(one)}
    trained = {key: vars(one).pop("forward", None) for key, one in around.items()}
    try:
        for one in around.values():
            one.forward = vars(one)["_original_forward"]
        yield
    finally:
        for key, one in around.items():
            del one.forward
            if trained[key] is not None:
                one.forward = trained[key]


@contextlib.contextmanager
def routers_unheard(model: nn.Module) -> Iterator[None]:
    """Within the block, a mixture of experts computes no auxiliary loss of its routers.

    Only training has a use for it, and with a cache of earlier tokens transformers cannot compute
    it: the attention mask covers more tokens than the routers saw.

    Args:
        model: a causal language model, possibly inside DDP or LoRA wrappers.
    """
    config = causal_lm(model).config
    parts = {id(part): part for part in (config, config.get_text_config())}.values()
    asking = [part for part in parts if getattr(part, _ROUTERS, None)]
    for part in asking:
        setattr(part, _ROUTERS, False)
    try:
        yield
    finally:
        for part in asking:
            setattr(part, _ROUTERS, True)
