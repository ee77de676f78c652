"""From hidden states to logits: the only place that knows how a model's output head is built.

Losses and measures here never ask a model for its logits, because an array of all tokens times
the whole vocabulary is often the largest thing in memory. They take the hidden states that
predict response tokens and rebuild logits a tile at a time.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.devices import sent
from tutelage.errors import ModelError
from tutelage.models.packed_attention import packed_inputs, rows_fit, use_packed_attention
from tutelage.models.products import Float32Results
from tutelage.numerics import as_float

# Shape suffixes: B batch, T tokens, N response tokens, H hidden, V vocabulary.


def causal_lm(model: nn.Module) -> Any:
    """The causal language model inside wrappers (DDP, LoRA)."""
    inner: Any = getattr(model, "module", model)
    get_base_model = getattr(inner, "get_base_model", None)
    return get_base_model() if get_base_model is not None else inner


@contextlib.contextmanager
def head_inputs(model: nn.Module, *, alone: bool = False) -> Iterator[list[Tensor]]:
    """Catch what enters the output head each time that it runs: last hidden states.

    Args:
        model: a causal language model, possibly inside wrappers.
        alone: give the head nothing to do.
    """
    head = causal_lm(model).get_output_embeddings()
    if head is None:
        raise ModelError(
            f"{type(causal_lm(model)).__name__} has no output embeddings, so it is not a causal"
            " language model that can be distilled. Load one with AutoModelForCausalLM."
        )
    caught: list[Tensor] = []

    def catch(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor] | None:
        caught.append(arguments[0])
        return (arguments[0][:, :0],) if alone else None

    handle = head.register_forward_pre_hook(catch)
    try:
        yield caught
    finally:
        handle.remove()


def response_hidden(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    *,
    packed: bool = False,
) -> tuple[Tensor, Tensor]:
    """Last hidden states at the positions that predict response tokens.

    The state at position t predicts token t + 1, so the states are those before each label.

    Args:
        model: a causal language model, possibly inside DDP or LoRA wrappers.
        input_ids: shape ``[B, T]``, on the device of the model.
        attention_mask: shape ``[B, T]``.
        labels: shape ``[B, T]``; token ids at response tokens, -100 elsewhere. With both on the CPU
            nobody waits for a GPU to learn where the response tokens are.
        packed: run the real tokens as one long row, without the padding. The result is the same to
            rounding for a model that ``supports_packing`` accepts, and for no other.

    Returns:
        ``hidden_NH`` (with its graph when gradients are on) and ``targets_N``, in reading order.
    """
    # The last token of a row predicts nothing.
    predicts_BT = nn.functional.pad(labels[:, 1:] != -100, (0, 1))
    targets_N = labels.roll(-1, 1)[predicts_BT]
    attended_BT = attention_mask.bool()
    packed = packed and rows_fit(causal_lm(model), attended_BT)
    if packed:
        use_packed_attention(causal_lm(model))
        inputs = packed_inputs(input_ids, attended_BT)
        where_N = predicts_BT[attended_BT].nonzero().squeeze(-1)
    else:
        mask_BT = sent(attention_mask, input_ids.device)
        inputs = {"input_ids": input_ids, "attention_mask": mask_BT}
        where_N = predicts_BT.flatten().nonzero().squeeze(-1)
    with head_inputs(model, alone=True) as caught:
        model(**inputs, use_cache=False)
    assert len(caught) == 1, "the output head must run exactly once in a forward pass"
    assert len(where_N) == len(targets_N), "a label follows a token that is not attended to"
    hidden_NH = caught[0].flatten(0, 1).index_select(0, sent(where_N, caught[0].device))
    return hidden_NH, sent(targets_N, hidden_NH.device)


def batch_hidden(
    model: nn.Module, batch: Mapping[str, Tensor], *, packed: bool = False
) -> tuple[Tensor, Tensor]:
    """``response_hidden`` of a batch as ``collate`` makes it, wherever the model is.

    Args:
        model: a causal language model.
        batch: ``input_ids``, ``attention_mask`` and ``labels``, on any device.
        packed: run it without the padding.
    """
    input_ids = sent(batch["input_ids"], next(model.parameters()).device)
    rows = (input_ids, batch["attention_mask"], batch["labels"])
    return response_hidden(model, *rows, packed=packed)


@dataclass(frozen=True)
class LogitTransform:
    """What a model does to the logits after the linear map of its head; identity by default.

    Attributes:
        scale: multiplies the logits (Cohere).
        divisor: divides them (Granite).
        softcap: bounds them smoothly, ``c * tanh(z / c)`` (Gemma).
    """

    scale: float | None = None
    divisor: float | None = None
    softcap: float | None = None

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.scale is None and self.divisor is None and self.softcap is None

    def __call__(self, logits: Tensor) -> Tensor:
        """The model's own logits, from those of the linear map; same shape and type."""
        if self.scale is not None:
            logits = logits * self.scale
        if self.divisor is not None:
            logits = logits / self.divisor
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits


def logit_transform(model: nn.Module) -> LogitTransform:
    """What this model does to its logits."""
    config = causal_lm(model).config.get_text_config()
    return LogitTransform(
        scale=getattr(config, "logit_scale", None),
        divisor=getattr(config, "logits_scaling", None),
        softcap=getattr(config, "final_logit_softcapping", None),
    )


def output_head(model: nn.Module) -> nn.Module:
    """The linear map from hidden states to logits (with its LoRA, if it has one)."""
    return causal_lm(model).get_output_embeddings()


def head_logits(model: nn.Module, hidden_NH: Tensor, vocab_size: int | None = None) -> Tensor:
    """Logits of hidden states, as the model's own forward pass makes them, but in float32.

    Products in 16 bits (of the weights, or by autocast) are not rounded to 16 bits afterwards.
    Soft capping (Gemma) and logit scales (Cohere, Granite) are applied; rows that pad the
    vocabulary beyond the tokenizer are cut off before the softmax, never filled with zeros.

    Args:
        model: the model whose head to use.
        hidden_NH: hidden states as ``response_hidden`` gives them.
        vocab_size: number of real tokens; None keeps the head's own width.

    Returns:
        ``logits_NV`` in float32 (float64 for a float64 head).
    """
    with Float32Results():
        logits = output_head(model)(hidden_NH)[..., :vocab_size]
    return logit_transform(model)(as_float(logits))


def head_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The trainable parameters of the output head (its weight, its bias, its LoRA)."""
    return [p for p in output_head(model).parameters() if p.requires_grad]


def head_size(model: nn.Module) -> int:
    """Number of rows of the output head, padding included."""
    return output_head(model).weight.shape[0]  # type: ignore[union-attr, return-value]


@torch.no_grad()
def check_head(model: nn.Module) -> None:
    """Make sure that logits rebuilt from hidden states are the model's own.

    A few tokens are run both ways; heads that do more than this module knows are found here, at the
    start, and not as a wrong loss.

    Raises:
        ModelError: the two differ by more than rounding.
    """
    was_training = model.training
    model.eval()
    try:
        device = next(model.parameters()).device
        size = min(head_size(model), 1000)
        input_ids = torch.arange(8, device=device).remainder(size).unsqueeze(0)
        mask = torch.ones_like(input_ids)
        expected = model(input_ids=input_ids, attention_mask=mask, use_cache=False).logits[0, :-1]
        hidden, _ = response_hidden(model, input_ids, mask, input_ids)
        rebuilt = head_logits(model, hidden)
    finally:
        model.train(was_training)
    tolerance = 1e-3 if expected.dtype in (torch.float32, torch.float64) else 5e-2
    scale = expected.float().abs().max().clamp_min(1.0)
    if (expected.float() - rebuilt.float()).abs().max() > tolerance * scale:
        raise ModelError(
            f"The logits of {type(causal_lm(model)).__name__} cannot be rebuilt from its hidden"
            " states: its head does more than a linear map, soft capping and a logit scale. This"
            " architecture is not supported for distillation; please report it."
        )
