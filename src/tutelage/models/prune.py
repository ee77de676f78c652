"""Making a student from a teacher by keeping some of its layers."""

import copy
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from tutelage.errors import ModelError, first_line
from tutelage.models.shorten import layer_indices, shorten

_LINEAR = re.compile("Linear|Lightning|Delta")
_OWN_NUMBER = {"layer_idx", "layer_id"}
_NO_SETTINGS = {"training", "gradient_checkpointing", *_OWN_NUMBER}


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
            configured, or all layers with attention would go; says which numbers do fit.

    Examples:
        >>> keep_layers(teacher, 10).config.num_hidden_layers  # doctest: +SKIP
        10
    """
    path, layers = _find_layers(model)
    layer_indices(len(layers), num_layers)
    try:
        return _keep(model, path, num_layers)
    except _UnfitError as error:
        fitting = _fitting_numbers(model, path, len(layers))
        raise ModelError(
            f"A student of {num_layers} layers cannot be cut from this {type(model).__name__}:"
            f" {error}. "
            + (
                f"Numbers of layers that work: {_ranges(fitting)}."
                if fitting
                else "No number of evenly spaced layers works: make the student by hand, save it,"
                " and name its folder."
            )
        ) from error


class _UnfitError(Exception):
    """These layers make no model of their own; the message says why."""


def _keep(model: PreTrainedModel, path: str, num_layers: int) -> PreTrainedModel:
    layers = model.get_submodule(path)
    assert isinstance(layers, nn.ModuleList)
    kept = layer_indices(len(layers), num_layers)
    _check_apart(layers)
    attending = [_has_attention(layer) for layer in layers]
    if any(attending) and not any(attending[i] for i in kept):
        # Masks and caches are built for attention: without any, such a model fails when it writes.
        raise _UnfitError(
            f"none of the layers that would be kept ({_ranges(kept)}) has attention; those with it"
            f" are {_ranges([i for i, attends in enumerate(attending) if attends])}"
        )
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
            for name in _OWN_NUMBER & vars(module).keys():
                vars(module)[name] = index
    shorten(student.config, len(layers), kept)
    _check_configured(student, path)
    return student


def _check_apart(layers: nn.ModuleList) -> None:
    """Refuse layers that share weights: which they share is written in terms of all layers."""
    owners: dict[int, int] = {}
    for index, layer in enumerate(layers):
        for parameter in layer.parameters():
            if owners.setdefault(id(parameter), index) != index:
                raise _UnfitError(f"its layers {owners[id(parameter)]} and {index} share weights")


def _has_attention(layer: nn.Module) -> bool:
    names = (type(module).__name__ for module in layer.modules())
    return any("Attention" in name and not _LINEAR.search(name) for name in names)


def _fitting_numbers(model: PreTrainedModel, path: str, total: int) -> list[int]:
    """Numbers of layers that can be kept, tried out without weights."""
    with torch.device("meta"):
        skeleton = type(model)(copy.deepcopy(model.config))
    fitting = []
    for number in range(1, total + 1):
        try:
            _keep(skeleton, path, number)
        except _UnfitError:
            continue
        fitting.append(number)
    return fitting


def _ranges(numbers: Sequence[int]) -> str:
    """Rising numbers for a person: 1, 3 to 5, 8."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{p[0]} to {p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in parts)


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


def _check_configured(student: PreTrainedModel, path: str) -> None:
    """Compare the student with what its configuration would build, without allocating that."""
    try:
        with torch.device("meta"):
            expected = type(student)(copy.deepcopy(student.config))
    except Exception as error:  # configurations refuse in many ways
        raise _UnfitError(
            f"its configuration would contradict itself ({first_line(error)})"
        ) from error
    shapes = {name: tensor.shape for name, tensor in student.state_dict().items()}
    wanted = {name: tensor.shape for name, tensor in expected.state_dict().items()}
    wrong = sorted(n for n in wanted.keys() | shapes.keys() if wanted.get(n) != shapes.get(n))
    if not wrong:
        modules = dict(student.get_submodule(path).named_modules())
        wrong = [
            f"{path}.{name}"
            for name, module in expected.get_submodule(path).named_modules()
            if name not in modules or _settings(module) != _settings(modules[name])
        ]
    if wrong:
        raise _UnfitError(
            "its layers differ by position, and a configuration of"
            f" {student.config.get_text_config().num_hidden_layers} layers has others there:"
            f" '{wrong[0]}' does not fit"
        )


def _settings(module: nn.Module) -> dict[str, Any]:
    """The plain values that decide what a module computes, such as a window or no rotation."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, bool | int | float | str)
        and name not in _NO_SETTINGS
        and not name.startswith("_")
    }
