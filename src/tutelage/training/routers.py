"""Mixtures of experts: the loss that keeps their routers balanced."""

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from tutelage.errors import ModelError
from tutelage.models.head import causal_lm

_WEIGHTS = ("router_aux_loss_coef", "aux_loss_coef")


class RouterLoss:
    """A model's own auxiliary loss, where its configuration asks for it.

    It is computed by the model (``output_router_logits``) and weighed as the model says
    (``router_aux_loss_coef``); a step takes the mean of its micro-batches by response tokens.

    Args:
        model: the student.

    Attributes:
        weight: of the loss; 0 where there is none.
        note: what to tell a person whose routers get no such loss; empty otherwise.

    Raises:
        ModelError: the loss is asked for and the model does not say its weight.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = causal_lm(model)
        config = self._model.config.get_text_config()
        weights = [getattr(owner, n, None) for owner in (self._model, config) for n in _WEIGHTS]
        weight = next((float(one) for one in weights if one is not None), None)
        wanted = bool(getattr(config, "output_router_logits", False))
        if wanted and weight is None:
            raise ModelError(
                f"{type(self._model).__name__} is asked for its routers' auxiliary loss"
                " (output_router_logits in its configuration), and does not say what it weighs."
                " Set router_aux_loss_coef in the configuration, or output_router_logits to false."
            )
        self.weight = weight if wanted and weight else 0.0
        self.note = ""
        if weight and not wanted and getattr(config, "output_router_logits", None) is not None:
            self.note = (
                "The student is a mixture of experts and is trained without its routers' auxiliary"
                f" loss. Set output_router_logits to true in its configuration to add it with the"
                f" model's own weight, {weight:g}."
            )

    @contextlib.contextmanager
    def caught(self) -> Iterator[list[Tensor]]:
        """Within the block, the list gets the auxiliary loss of each forward pass."""
        found: list[Tensor] = []
        if not self.weight:
            yield found
            return

        def catch(module: nn.Module, arguments: Any, output: Any) -> None:
            found.append(output.aux_loss)

        handle = self._model.register_forward_hook(catch)
        try:
            yield found
        finally:
            handle.remove()
