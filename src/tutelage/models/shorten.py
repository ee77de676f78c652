"""Which layers a shorter model keeps, and its configuration.

Architectures say in many ways which layer is of which kind: a list with an entry for each layer, a
list of numbers of layers, so many layers at the beginning, or every so-manieth one. Each way is cut
along here. What cannot be expressed afterwards is found when the student is compared with what its
configuration would build.
"""

from typing import TYPE_CHECKING, Any

from tutelage.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_NUMBERS_OF_LAYERS = (
    "mlp_only_layers", "moe_layers", "full_attn_idxs", "attn_layer_indices", "hybrid_layer_ids",
    "cross_attention_layers",
)  # fmt: skip
_FIRST_LAYERS = ("first_k_dense_replace", "max_window_layers")
_EVERY_SO_MANY = ("attn_layer", "expert_layer")
_NO_LISTS_OF_LAYERS = ("token_id", "section", "architectures")


def layer_indices(total: int, num_layers: int) -> list[int]:
    r"""Which layers to keep, from 0: evenly spaced, with the first and the last.

    .. math:: k_i = \left\lfloor \frac{i\,(L - 1)}{n - 1} + \frac12 \right\rfloor, \quad 0 \le i < n

    for n of L layers; a single layer is the first one. Computed in whole numbers.

    Args:
        total: number of layers L.
        num_layers: how many to keep, n.

    Raises:
        ConfigError: ``num_layers`` is below 1 or above ``total``.

    Examples:
        >>> layer_indices(30, 10)
        [0, 3, 6, 10, 13, 16, 19, 23, 26, 29]
    """
    if not 1 <= num_layers <= total:
        raise ConfigError(
            f"{num_layers} layers cannot be kept of a model that has {total}. Choose a number from"
            f" 1 to {total}."
        )
    gaps = max(1, num_layers - 1)
    return [(2 * i * (total - 1) + gaps) // (2 * gaps) for i in range(num_layers)]


def shorten(config: "PretrainedConfig", total: int, kept: list[int]) -> None:
    """Make a configuration in place that of the kept layers.

    Args:
        config: of a model with ``total`` layers.
        total: number of layers.
        kept: which stay, rising, from 0.
    """
    text = config.get_text_config()
    values = text.to_dict()
    _spell_out_sparse_step(text, total)
    for key in _NUMBERS_OF_LAYERS:
        numbers = getattr(text, key, None)
        if key in values and isinstance(numbers, list | tuple):
            _set(text, key, [kept.index(i) for i in numbers if i in kept])
    for key, value in values.items():
        if key in _NUMBERS_OF_LAYERS or any(word in key for word in _NO_LISTS_OF_LAYERS):
            continue
        # One entry for each layer: layer_types, no_rope_layers, intermediate_size of some, ...
        if isinstance(value, list | tuple) and len(value) == total:
            _set(text, key, [value[i] for i in kept])
    for key in _FIRST_LAYERS:
        if isinstance(values.get(key), int):
            _set(text, key, sum(i < values[key] for i in kept))
    for key in _EVERY_SO_MANY:
        _find_period(text, key, kept)
    if "attention_types" in values:  # GPT-Neo: kinds of attention with how often each comes
        kinds = [kind for kinds, times in values["attention_types"] for kind in kinds * times]
        _set(text, "attention_types", [[[kinds[i]], 1] for i in kept])
    _set(text, "num_hidden_layers", len(kept))


def _spell_out_sparse_step(text: Any, total: int) -> None:
    """Name the dense layers one by one where every so-manieth layer is one of experts."""
    step = getattr(text, "decoder_sparse_step", None)
    if not isinstance(step, int) or step <= 1 or not hasattr(text, "mlp_only_layers"):
        return
    dense = set(text.mlp_only_layers or ())
    text.mlp_only_layers = [i for i in range(total) if i in dense or (i + 1) % step]
    text.decoder_sparse_step = 1


def _find_period(text: Any, key: str, kept: list[int]) -> None:
    """Say anew which layers have a property, where it is those of one remainder (Jamba)."""
    period, offset = (getattr(text, f"{key}_{name}", None) for name in ("period", "offset"))
    if not isinstance(period, int) or not isinstance(offset, int) or period < 1:
        return
    wanted = [i % period == offset for i in kept]
    # A period longer than the model has at most one such layer.
    for new in range(1, len(kept) + 2):
        for start in range(new):
            if [j % new == start for j in range(len(kept))] == wanted:
                setattr(text, f"{key}_period", new)
                setattr(text, f"{key}_offset", start)
                return


def _set(config: Any, key: str, value: Any) -> None:
    try:
        setattr(config, key, value)
    except AttributeError:  # follows from other values
        return
