"""The linear map of an output head, run forwards and backwards over tiles of tokens.

Autograd would make a new gradient of the head, as large as the head, for every tile. Here one
gradient is kept for all of them, and products are written into memory that is used again.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from tutelage.models.head import head_parameters, output_head
from tutelage.models.products import Float32Results, products_in

# Shape suffixes: n tokens of a tile, H hidden, V vocabulary (real tokens alone), P the same with
# what fills it up, see ``Products.prepared``.


class LinearHead(Protocol):
    """A weight of shape ``[V, H]`` and perhaps a bias: an ``nn.Linear``, or a stored head."""

    @property
    def weight(self) -> Tensor:
        """Shape ``[V, H]``."""
        ...

    @property
    def bias(self) -> Tensor | None:
        """Shape ``[V]``, or None."""
        ...


class LinearProjection:
    r"""A head that is one plain linear map: :math:`z = W h + b`.

    With the gradient g of a loss in z, that in h is :math:`W^\top g`, that in W the sum over tokens
    of :math:`g h^\top`, that in b the sum of g.

    Args:
        head: the weight and the bias.
        vocab_size: number of real tokens; rows of the head beyond it take no part.
        autocast_dtype: make the products in this type, as ``Products`` says; None for the weight's
            own. Logits and gradients are float32 all the same.
        trained: keep gradients of those parameters that require them.
    """

    arrays = 1
    """Arrays of ``[n, V]`` that a tile takes."""

    def __init__(
        self,
        head: LinearHead,
        vocab_size: int | None = None,
        autocast_dtype: torch.dtype | None = None,
        *,
        trained: bool = False,
    ) -> None:
        weight, bias = head.weight.detach()[:vocab_size], head.bias
        wanted = weight.dtype
        if autocast_dtype is not None and wanted != torch.float64:
            wanted = autocast_dtype
        self._products = products_in(wanted, weight.device)
        self._vocab = len(weight)
        self._weight_PH = self._products.prepared(head.weight.detach(), self._vocab)
        self._bias_P = None
        if bias is not None:
            more = len(self._weight_PH) - self._vocab
            self._bias_P = functional.pad(bias.detach()[:vocab_size], (0, more))
        self._buffer = self._rows(0, self._products.result)
        self.gradients: list[Tensor] = []
        self._weight_grad = self._bias_grad = None
        if trained and head.weight.requires_grad:
            self._weight_grad = _zeros_for(head.weight)
            self.gradients.append(self._weight_grad)
        if trained and bias is not None and bias.requires_grad:
            self._bias_grad = _zeros_for(bias)
            self.gradients.append(self._bias_grad)

    def _rows(self, count: int, dtype: torch.dtype) -> Tensor:
        return self._weight_PH.new_empty(count, len(self._weight_PH), dtype=dtype)

    @torch.no_grad()
    def logits(self, hidden_nH: Tensor) -> Tensor:
        """Logits of a tile, ``[n, V]``, in memory that the next tile uses again."""
        count = len(hidden_nH)
        if len(self._buffer) < count:
            self._buffer = self._rows(count, self._products.result)
        logits_nP = self._buffer[:count]
        for columns, weight in self._products.slices(self._weight_PH):
            bias = None if self._bias_P is None else self._bias_P[columns]
            self._products.multiply(hidden_nH, weight.t(), logits_nP[:, columns], bias)
        return logits_nP[:, : self._vocab]

    def gradient_buffer(self, logits_nV: Tensor) -> Tensor:
        """Where to write the gradient in the logits of a tile: over the logits themselves."""
        return logits_nV

    @torch.no_grad()
    def backward(self, gradient_nV: Tensor, hidden_nH: Tensor) -> Tensor:
        """Add a tile to the head's gradients.

        Args:
            gradient_nV: of the loss in the tile's logits.
            hidden_nH: the tile's hidden states.

        Returns:
            Gradient of the loss in the hidden states, ``[n, H]``, in float32 or better.
        """
        if self._bias_grad is not None:
            whole = self._bias_grad[: gradient_nV.shape[1]]
            whole += gradient_nV.sum(0, dtype=whole.dtype)
        hidden_grad = torch.zeros_like(hidden_nH, dtype=gradient_nV.dtype)
        gradient_nP = gradient_nV
        if self._products.factors != gradient_nV.dtype:
            # Once for both products; beyond the real tokens there is none.
            gradient_nP = self._rows(len(gradient_nV), self._products.factors)
            gradient_nP[:, : self._vocab] = gradient_nV
            gradient_nP[:, self._vocab :] = 0.0
        if self._weight_grad is not None:
            whole = self._weight_grad[: self._vocab]
            self._products.add(whole, gradient_nP[:, : self._vocab].t(), hidden_nH)
        for columns, weight in self._products.slices(self._weight_PH):
            self._products.add(hidden_grad, gradient_nP[:, columns], weight)
        return hidden_grad


class OpaqueProjection:
    """Any other head (LoRA, quantised, replaced): it runs as it is, and autograd goes back.

    Linear maps in 16 bits inside of it give float32 results; see ``Float32Results``.

    Args:
        head: a module from hidden states to logits.
        vocab_size: number of real tokens; logits beyond it are cut off.
        autocast_dtype: run the head under autocast to this type; None for its own.
        trained: keep gradients of those parameters that require them.
    """

    arrays = 2
    """Arrays of ``[n, V]`` that a tile takes."""

    def __init__(
        self,
        head: nn.Module,
        vocab_size: int | None = None,
        autocast_dtype: torch.dtype | None = None,
        *,
        trained: bool = False,
    ) -> None:
        self._head = head
        self._vocab_size = vocab_size
        self._autocast_dtype = autocast_dtype
        self._trained = trained
        self._parameters = [p for p in head.parameters() if p.requires_grad] if trained else []
        self.gradients = [_zeros_for(p) for p in self._parameters]
        self._graph: tuple[Tensor, Tensor] | None = None

    def logits(self, hidden_nH: Tensor) -> Tensor:
        """Logits of a tile, ``[n, V]``; their graph is kept until the next tile."""
        self._graph = None
        device, dtype = hidden_nH.device.type, self._autocast_dtype
        with (
            torch.set_grad_enabled(self._trained),
            torch.autocast(device, dtype, enabled=dtype is not None),
            Float32Results(),
        ):
            hidden_nH = hidden_nH.detach().requires_grad_(self._trained)
            logits_nV = self._head(hidden_nH)[:, : self._vocab_size]
        if self._trained:
            self._graph = hidden_nH, logits_nV
        return logits_nV.detach()

    def gradient_buffer(self, logits_nV: Tensor) -> Tensor:
        """Where to write the gradient; the head may still need the logits for its own."""
        return torch.empty_like(logits_nV)

    def backward(self, gradient_nV: Tensor, hidden_nH: Tensor) -> Tensor:
        """Add a tile to the head's gradients; see ``LinearProjection.backward``."""
        assert self._graph is not None, "the tile's logits must be made first"
        hidden, logits = self._graph
        self._graph = None
        found = torch.autograd.grad(
            logits, [hidden, *self._parameters], gradient_nV, allow_unused=True
        )
        for whole, gradient in zip(self.gradients, found[1:], strict=True):
            if gradient is not None:
                whole += gradient
        return torch.zeros_like(hidden_nH) if found[0] is None else found[0]


Projection = LinearProjection | OpaqueProjection


def projection(
    model: nn.Module,
    vocab_size: int | None = None,
    autocast_dtype: torch.dtype | None = None,
    *,
    trained: bool = False,
) -> Projection:
    """The linear map of a model's head for one pass over hidden states.

    Args:
        model: a causal language model, possibly inside wrappers.
        vocab_size: number of real tokens.
        autocast_dtype: type of the products.
        trained: keep gradients, in the order of ``head_parameters``.
    """
    head = output_head(model)
    plain = type(head) is nn.Linear and type(head.weight) in (Tensor, nn.Parameter)
    # Hooks and replaced forward functions (offloading, quantisation) must run.
    touched = "forward" in vars(head) or head._forward_hooks or head._forward_pre_hooks
    if isinstance(head, nn.Linear) and plain and not touched:
        found = LinearProjection(head, vocab_size, autocast_dtype, trained=trained)
    else:
        found = OpaqueProjection(head, vocab_size, autocast_dtype, trained=trained)
    assert not trained or len(found.gradients) == len(head_parameters(model))
    return found


def _zeros_for(parameter: Tensor) -> Tensor:
    """A sum of gradients: in float32 at least, whatever the parameter's type."""
    wide = torch.float64 if parameter.dtype == torch.float64 else torch.float32
    return torch.zeros_like(parameter, dtype=wide)
