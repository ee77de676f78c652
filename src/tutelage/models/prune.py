"""Making a student from a teacher by keeping some of its layers."""

import copy
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from tutelage.errors import ConfigError, ModelError


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


def keep_layers(model: PreTrainedModel, num_layers: int) -> PreTrainedModel:
    """A new model with evenly spaced layers of the given one, and all the rest of it.

    Embeddings, final norm and output head are copied, tied weights stay tied, and the given model
    is left as it was. The configuration counts the layers that are left and keeps their entries in
    lists that have one for each layer, so the new model can be saved and loaded as any other.

    Args:
        model: a causal language model whose layers stand in one list.
        num_layers: how many layers to keep; see ``layer_indices`` for which.

    Raises:
        ConfigError: ``num_layers`` does not fit the model.
        ModelError: the layers are not found, or differ so much that a shorter model cannot be
            configured.

    Examples:
        >>> keep_layers(teacher, 10).config.num_hidden_layers  # doctest: +SKIP
        10
    """
    path, layers = _find_layers(model)
    kept = layer_indices(len(layers), num_layers)
    # Layers that are dropped are entered as already copied (to nothing), so deepcopy leaves them
    # alone: beside a large teacher, memory grows by the size of the student and no more.
    nothing = nn.Identity()
    dropped: dict[int, Any] = {id(layers[i]): nothing for i in range(len(layers)) if i not in kept}
    student = copy.deepcopy(model, dropped)
    student_layers = student.get_submodule(path)
    assert isinstance(student_layers, nn.ModuleList)
    remaining = nn.ModuleList(student_layers[i] for i in kept)
    parent, _, name = path.rpartition(".")
    setattr(student.get_submodule(parent), name, remaining)
    for index, layer in enumerate(remaining):
        for module in layer.modules():
            # The key-value cache is addressed by this number.
            if "layer_idx" in vars(module):
                vars(module)["layer_idx"] = index
    _shorten(student.config, len(layers), kept)
    _check_configured(student)
    return student


def _find_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The list of transformer layers and its path; a list inside a layer (experts) is not it."""
    total = model.config.get_text_config().num_hidden_layers
    found: list[tuple[str, nn.ModuleList]] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer, _ in found)
        if isinstance(module, nn.ModuleList) and len(module) == total and not inside:
            found.append((path, module))
    if len(found) != 1:
        seen = ", ".join(path for path, _ in found) or "no list"
        raise ModelError(
            f"The layers of a {type(model).__name__} were not found: {seen} has the"
            f" {total} entries of num_hidden_layers. Make the student by hand, save it, and name"
            " its folder instead of a number of layers."
        )
    return found[0]


def _shorten(config: PretrainedConfig, total: int, kept: list[int]) -> None:
    """Make a configuration in place that of the kept layers."""
    text = config.get_text_config()
    for key, value in text.to_dict().items():
        # One entry for each layer: layer_types, no_rope_layers, mlp_layer_types, ...
        if "layer" in key and isinstance(value, list | tuple) and len(value) == total:
            setattr(text, key, [value[i] for i in kept])
    text.num_hidden_layers = len(kept)


def _check_configured(student: PreTrainedModel) -> None:
    """Compare the student with what its configuration would build, without allocating that."""
    with torch.device("meta"):
        expected = type(student)(copy.deepcopy(student.config)).state_dict()
    actual = student.state_dict()
    shapes = {name: tensor.shape for name, tensor in actual.items()}
    wrong = sorted(
        name
        for name in expected.keys() | shapes.keys()
        if name not in expected or shapes.get(name) != expected[name].shape
    )
    if wrong:
        raise ModelError(
            f"The layers of a {type(student).__name__} differ by position, so a model of"
            f" {student.config.num_hidden_layers} of them cannot be configured: '{wrong[0]}' does"
            " not fit. Make the student by hand, save it, and name its folder."
        )
