"""Attention over rows that lie one after the other in a single long row, without padding.

In the attention functions of transformers, a mask is where a model says who may attend to whom.
Here a packed pass gives the model a "mask" that holds only the lengths of its rows: a tensor of
shape ``[1, 1, 1, rows]`` in int32, a type that no mask has. transformers hands four-dimensional
masks through to every layer untouched, so no mask of tokens times tokens is ever built. It is an
argument of the layers, not a state around the pass, so it is there again when gradient
checkpointing runs them a second time.

The attention function that reads the lengths gives every row to the function that the model had
before, so grouped heads, soft capping and whatever else that function knows stay as they were. On a
GPU, in 16 bits, all rows go through one call of torch's attention for rows of several lengths.
"""

import functools
import inspect
import itertools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.devices import sent
from tutelage.errors import ModelError

# Shape suffixes: B batch, T tokens, R rows, H heads, L length of a row, D head dimension.

PREFIX = "tutelage_packed_"
"""Before the name of the attention that a model had; saved configurations never have either."""

STOCK = ("sdpa", "eager")
"""The attention implementations that can be given one row at a time."""

CHECKED_WINDOW = 1024
"""Longest attention window that ``supports_packing`` tries with a row that is longer."""


def packed_inputs(input_ids: Tensor, attended_BT: Tensor) -> dict[str, Tensor]:
    """What a model takes to run a padded batch as one row.

    Args:
        input_ids: shape ``[B, T]``, on the device of the model.
        attended_BT: True at real tokens; on the CPU, nobody waits for a GPU to learn which.

    Returns:
        ``input_ids`` and ``position_ids`` of shape ``[1, real tokens]``, the positions being those
        of the padded batch, and ``attention_mask`` with the lengths.
    """
    lengths = attended_BT.sum(1)
    row_P, column_P = attended_BT.nonzero(as_tuple=True)
    where_P = sent(row_P * attended_BT.shape[1] + column_P, input_ids.device)
    return {
        "input_ids": input_ids.flatten().index_select(0, where_P).unsqueeze(0),
        "position_ids": sent(column_P, input_ids.device).unsqueeze(0),
        # On the CPU: every layer reads the lengths, and would wait for a GPU each time.
        "attention_mask": lengths[lengths > 0].to("cpu", torch.int32).view(1, 1, 1, -1),
    }


def attention_window(lm: Any) -> int | None:
    """The least number of tokens after which some layer forgets, or None if none ever does."""
    config = lm.config.get_text_config()
    windows = [
        getattr(config, name, None)
        for name in ("sliding_window", "attention_chunk_size", "window_size")
    ]
    return min((w for w in windows if isinstance(w, int) and w > 0), default=None)


def longest_packed_row(lm: Any) -> int | None:
    """How long a row may be for ``supports_packing`` to speak for it; None for any length.

    Within a window attention is plainly causal. Beyond one that is too long to be tried we trust no
    architecture to hand its width to the attention function.
    """
    window = attention_window(lm)
    return None if window is None or window <= CHECKED_WINDOW else window


def rows_fit(lm: Any, attended_BT: Tensor) -> bool:
    """Whether no row of a padded batch is longer than ``longest_packed_row``."""
    longest = longest_packed_row(lm)
    return (
        longest is None
        or attended_BT.shape[1] <= longest
        or int(attended_BT.sum(1).max()) <= longest
    )


def can_pack_attention(lm: Any) -> bool:
    """Whether the model asks transformers for its attention function, and for one we can use.

    This is no more than a first look: ``supports_packing`` compares results.
    """
    if getattr(lm.config.get_text_config(), "attn_temperature_tuning", False):
        # Llama 4 counts these positions from the start of the long row, but only a row of
        # thousands of tokens would show it.
        return False
    configs = (getattr(module, "config", None) for module in lm.modules())
    names: set[Any] = {getattr(config, "_attn_implementation", None) for config in configs}
    names.discard(None)
    return (
        len(names) == 1
        and names.pop().removeprefix(PREFIX) in STOCK
        and _from_modeling_file(lm, "ALL_ATTENTION_FUNCTIONS") is not None
    )


def uses_packed_attention(lm: Any) -> bool:
    """Whether ``use_packed_attention`` was called on the model."""
    return lm.config._attn_implementation.startswith(PREFIX)


def use_packed_attention(lm: Any) -> None:
    """Give the model the attention function that understands packed rows; once is enough.

    It stays there, since gradient checkpointing attends again during the backward pass. Passes
    without packed rows, generation among them, go to the model's own function.

    Raises:
        ModelError: the architecture does not ask transformers for its attention function.
    """
    if uses_packed_attention(lm):
        return
    _register()
    lm.set_attn_implementation(PREFIX + lm.config._attn_implementation)
    if not uses_packed_attention(lm):
        raise ModelError(
            f"The attention of {type(lm).__name__} cannot be exchanged, so it cannot run packed"
            " rows. Ask `supports_packing` first, and run it padded."
        )


def restore_attention(lm: Any) -> None:
    """Give the model back the attention function that it had."""
    if uses_packed_attention(lm):
        lm.set_attn_implementation(lm.config._attn_implementation.removeprefix(PREFIX))


@functools.cache
def _register() -> None:
    """Make our names known to transformers; lazily, as its import takes a while."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    for name in STOCK:
        AttentionInterface.register(PREFIX + name, functools.partial(_attention, name))
        AttentionMaskInterface.register(PREFIX + name, ALL_MASK_ATTENTION_FUNCTIONS[name])


def _from_modeling_file(module: nn.Module, name: str) -> Any:
    """What the file that defines a module, or one of its parents, calls by a name, or None."""
    files = [parent.__module__ for parent in type(module).__mro__]
    # The parent of all models knows the name without using it.
    own = [sys.modules.get(file) for file in files if file != "transformers.modeling_utils"]
    return next((getattr(file, name) for file in own if hasattr(file, name)), None)


def _stock_attention(name: str, module: nn.Module) -> Callable[..., tuple[Tensor, Any]]:
    """The attention function that a layer would have without us."""
    if name == "sdpa":
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        return ALL_ATTENTION_FUNCTIONS[name]
    # Every architecture has an eager function of its own, beside its layers.
    function = _from_modeling_file(module, "eager_attention_forward")
    if function is None:
        raise ModelError(f"{type(module).__name__} has no eager attention function.")
    return function


def _attention(
    name: str,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, Any]:
    """An attention function of transformers: shapes ``[B, H, T, D]``, gives ``[B, T, H, D]``."""
    stock = _stock_attention(name, module)
    if attention_mask is None or attention_mask.dtype != torch.int32:
        return stock(module, query, key, value, attention_mask, **options)
    if name == "sdpa" and _in_one_call(query, options):
        return _of_all_rows(query, key, value, attention_mask, options), None
    runs = [
        (length, len(list(same))) for length, same in itertools.groupby(_lengths(attention_mask))
    ]
    # One split, and not a slice for each run: the gradient of a slice is as long as the whole.
    parts = [x.split([length * rows for length, rows in runs], 2) for x in (query, key, value)]
    outputs = []
    for (length, rows), *run in zip(runs, *parts, strict=True):
        queries, keys, values = (
            x.squeeze(0).unflatten(1, (rows, length)).transpose(0, 1) for x in run
        )
        mask = _row_mask(name, length, options.get("sliding_window"), queries)
        outputs.append(stock(module, queries, keys, values, mask, **options)[0].flatten(0, 1))
    return (outputs[0] if len(outputs) == 1 else torch.cat(outputs)).unsqueeze(0), None


def _lengths(mask: Any) -> list[int]:
    """What the mask holds. All layers get the same one, so it is read once."""
    if not hasattr(mask, "_lengths"):
        mask._lengths = mask.flatten().tolist()
    return mask._lengths


def _ends(mask: Any, device: torch.device) -> Tensor:
    """Where rows begin and end, shape ``[R + 1]``, on the device; likewise made once."""
    if not hasattr(mask, "_ends"):
        ends = torch.tensor([0, *itertools.accumulate(_lengths(mask))], dtype=torch.int32)
        mask._ends = sent(ends, device)
    return mask._ends


def attends_in_one_call(lm: Any, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether packed rows of a model would attend in one call, and not row by row.

    Args:
        lm: the causal language model.
        device: where it will run.
        dtype: type of its products.
    """
    config = lm.config.get_text_config()
    name = str(getattr(lm.config, "_attn_implementation", "")).removeprefix(PREFIX)
    width = getattr(config, "head_dim", None) or (
        config.hidden_size // max(1, getattr(config, "num_attention_heads", 1))
    )
    dropout = getattr(config, "attention_dropout", getattr(config, "attn_pdrop", 0.0))
    window = attention_window(lm)
    return name == "sdpa" and not dropout and _one_call_takes(device, dtype, width, window)


def _one_call_takes(
    device: torch.device, dtype: torch.dtype, width: int, window: int | None
) -> bool:
    """Whether torch's attention for rows of several lengths takes such heads.

    It is there for GPUs, in 16 bits, for heads of up to 256 numbers.
    """
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return False
    found = _varlen() if width <= 256 and width % 8 == 0 else None
    return found is not None and (window is None or "window_size" in found[1])


def _in_one_call(query: Tensor, options: dict[str, Any]) -> bool:
    """Whether that attention can stand in for SDPA: with nothing that it does not know."""
    known = {"dropout", "scaling", "sliding_window", "is_causal", "position_ids", "use_cache"}
    odd = any(value is not None for name, value in options.items() if name not in known)
    if odd or options.get("dropout") or options.get("is_causal") is False:
        return False
    window = options.get("sliding_window")
    return _one_call_takes(query.device, _product_dtype(query), query.shape[-1], window)


def _product_dtype(tensor: Tensor) -> torch.dtype:
    """The type in which attention would multiply it: autocast's, or its own."""
    device = tensor.device.type
    on = torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if on else tensor.dtype


@functools.cache
def _varlen() -> tuple[Callable[..., Tensor], frozenset[str]] | None:
    """The function, and the names of its arguments, which changed over torch's versions."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn, frozenset(inspect.signature(varlen_attn).parameters)  # type: ignore[return-value]


def _of_all_rows(
    query: Tensor, key: Tensor, value: Tensor, lengths: Tensor, options: dict[str, Any]
) -> Tensor:
    """Causal attention within each row: ``[1, H, T, D]`` in, ``[1, T, H, D]`` out."""
    found = _varlen()
    assert found is not None
    function, names = found
    longest = max(_lengths(lengths))
    ends = _ends(lengths, query.device)
    dtype = _product_dtype(query)
    q, k, v = (x.squeeze(0).transpose(0, 1).to(dtype) for x in (query, key, value))
    settings: dict[str, Any] = {"scale": options.get("scaling")}
    window = options.get("sliding_window")
    if "window_size" in names:
        settings["window_size"] = (-1 if window is None else window - 1, 0)
    else:
        settings["is_causal"] = True
    if "enable_gqa" in names:
        settings["enable_gqa"] = q.shape[1] != k.shape[1]
    elif q.shape[1] != k.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    return function(q, k, v, ends, ends, longest, longest, **settings).unsqueeze(0)


def _row_mask(name: str, length: int, window: int | None, query: Tensor) -> Tensor | None:
    """Who may attend to whom in a row, shape ``[1, 1, L, L]``; None leaves it to SDPA."""
    window = length if window is None else window
    if name == "sdpa" and length <= window:
        return None
    ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
    allowed = ones.tril().triu(1 - window)
    if name == "eager":
        zeros = torch.zeros(length, length, dtype=query.dtype, device=query.device)
        allowed = zeros.masked_fill(~allowed, torch.finfo(query.dtype).min)
    return allowed[None, None]
