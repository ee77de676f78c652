"""Models that are cut over the processes, by torch's FSDP2.

Each process holds a part of the weights, of their gradients and of what the optimizer remembers.
Layers are gathered one at a time, where they run. What is no layer (embeddings, last norm, output
head) is gathered once for a step and stays whole until its last backward pass, whose gradient is
reduced once: between the two the loss reads the head as it does in one process.
"""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tutelage.errors import ConfigError
from tutelage.models.head import causal_lm


def is_part(tensor: Tensor) -> bool:
    """Whether this process holds a part of the tensor alone."""
    return hasattr(tensor, "device_mesh")


def whole_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor, from the parts of all processes, which all must ask; others as they are."""
    return tensor.full_tensor() if is_part(tensor) else tensor  # type: ignore[attr-defined]


def part_like(whole: Tensor, like: Tensor) -> Tensor:
    """Of a tensor the part that this process holds of another one; all processes must ask.

    Args:
        whole: the same on all processes.
        like: of the same shape, cut over the processes or not.
    """
    whole = whole.to(like.device)
    if not is_part(like):
        return whole
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(whole, like.device_mesh, like.placements)  # type: ignore[attr-defined]


def find_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a causal language model, in their order; none where it does not say."""
    names = set(getattr(causal_lm(model), "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def layers_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a causal language model, in their order.

    Raises:
        ConfigError: nobody says which modules they are.
    """
    found = find_layers(model)
    if not found:
        raise ConfigError(
            f"training.shard cuts a model by its layers, and {type(causal_lm(model)).__name__}"
            " does not say which modules they are. Leave `shard` out: every process then holds"
            " all of it."
        )
    return found


def shard(model: nn.Module, device: torch.device) -> None:
    """Cut a model over all processes, in place.

    Args:
        model: a causal language model, the same on all processes; wherever it is, its parts are on
            the device afterwards.
        device: of this process.

    Raises:
        ConfigError: this torch cannot, or the model does not say what its layers are.
    """
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        can = hasattr(FSDPModule, "set_reshard_after_forward")
    except ImportError:
        can = False
    if not can:
        raise ConfigError(
            f"training.shard needs a torch that has FSDP2 and can let layers stay whole, and this"
            f" is {torch.__version__}. Install a newer one, or leave `shard` out."
        )
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in layers_of(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


class ShardedStudent:
    """The student of a trainer, cut over the processes.

    Args:
        model: the student; it is cut in place, before it has an optimizer.
        device: of this process.

    Raises:
        ConfigError: see ``shard``.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._names = list(model.state_dict())
        self._shell = _without_weights(model)
        shard(model, device)
        self._model: Any = model
        self._units: list[Any] = [unit for unit in model.modules() if hasattr(unit, "unshard")]
        self._is_whole, self._syncs = False, True
        # Where accelerate looks for it.
        self._model.no_sync = self.no_sync
        self._meet()

    @torch.no_grad()
    def _meet(self) -> None:
        """Run all of the student once: FSDP2 takes what runs first for the root.

        Later a part may run alone.
        """
        was_training = self._model.training
        device = next(self._model.parameters()).device
        self._model.eval()(
            input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), use_cache=False
        )
        self._model.train(was_training)
        # The root stays whole until a backward pass, and there is none.
        self._model.reshard()

    # ---- steps ------------------------------------------------------------------------------

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Around a micro-batch that is not the last of its step.

        Layers are reduced all the same, or each process would hold the gradient of all of them.
        """
        outer = self._syncs
        self._sync(False)
        try:
            yield
        finally:
            self._sync(outer)

    def _sync(self, wanted: bool) -> None:
        """Whether what is no layer is reduced, and no longer whole, after a backward pass."""
        self._syncs = wanted
        self._model.set_requires_gradient_sync(wanted, recurse=False)
        self._model.set_reshard_after_backward(wanted, recurse=False)

    # ---- the whole student --------------------------------------------------------------------

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, every process has all weights, and runs the student by itself.

        All processes must enter. Nothing is learned inside, and what is written to the weights is
        lost.
        """
        if self._is_whole:
            yield
            return
        layers = [unit for unit in self._units if unit is not self._model]
        for layer in layers:
            layer.set_reshard_after_forward(False, recurse=False)
        for unit in self._units:
            unit.unshard()
        self._is_whole = True
        try:
            yield
        finally:
            self._is_whole = False
            for layer in layers:
                layer.set_reshard_after_forward(True, recurse=False)
            for unit in self._units:
                unit.reshard()

    def state(self) -> dict[str, Tensor]:
        """All weights on the CPU, as ``state_dict`` had them before; inside ``whole``.

        Weights that several names share are one tensor.
        """
        assert self._is_whole, "the weights are in parts"
        found = _named(self._model)
        copies = {id(one): one.detach().to("cpu", copy=True) for one in found.values()}
        return {name: copies[id(found[name])] for name in self._names}

    def in_one_piece(self) -> nn.Module | None:
        """The student as if it had never been cut, on the CPU; on the first process alone.

        All processes must ask.
        """
        with self.whole():
            if torch.distributed.get_rank():
                return None
            state = self.state()
        parameters = dict(self._shell.named_parameters(remove_duplicate=False))
        values = {id(one): state[name] for name, one in parameters.items()}
        made = {
            id(one): nn.Parameter(values[id(one)], requires_grad=one.requires_grad)
            for one in self._shell.parameters()
        }
        for module in self._shell.modules():
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, made[id(parameter)])
        return self._shell

    # ---- checkpoints --------------------------------------------------------------------------

    @torch.no_grad()
    def load(self, folder: str | Path) -> None:
        """Take the weights that a checkpoint holds; all processes read it.

        Args:
            folder: what a trainer saved, of a student that was cut or not.
        """
        saved = _saved(Path(folder))
        targets: Mapping[str, Tensor] = _named(self._model)
        if hasattr(self._model, "peft_config"):
            from peft import get_peft_model_state_dict

            targets = get_peft_model_state_dict(self._model, state_dict=targets)
        for name, value in saved.items():
            targets[name].copy_(part_like(value, targets[name]))

    def keep_whole(self, optimizer: torch.optim.Optimizer) -> None:
        """Let an optimizer save its state as that of a student that is not cut, and load such.

        All processes must ask for its ``state_dict``; the first one gets it.
        """
        optimizer.register_state_dict_post_hook(_whole_state)
        optimizer.register_load_state_dict_pre_hook(_own_state)


def _without_weights(model: nn.Module) -> nn.Module:
    """A copy of a model that has its buffers, and of its weights no more than their shapes."""
    shapes: dict[int, Any] = {
        id(one): nn.Parameter(torch.empty_like(one, device="meta"), requires_grad=one.requires_grad)
        for one in model.parameters()
    }
    return copy.deepcopy(model, shapes)


def _named(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under all their names."""
    parameters = model.named_parameters(remove_duplicate=False)
    return {**dict(parameters), **dict(model.named_buffers(remove_duplicate=False))}


def _saved(folder: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint, by name: of a model, in one file or several, or of adapters."""
    found: dict[str, Tensor] = {}
    for path in sorted(
        [*folder.glob("model*.safetensors"), *folder.glob("adapter_model.safetensors")]
    ):
        found |= load_file(path)
    return found


def _whole_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """What an optimizer remembers, in whole tensors, on the first process alone."""
    first = torch.distributed.get_rank() == 0
    moments: dict[Any, dict[str, Any]] = {}
    for number, values in state["state"].items():
        moments[number] = {}
        for name, value in values.items():
            if isinstance(value, Tensor):
                value = whole_tensor(value).cpu() if first else whole_tensor(value).new_empty(0)
            moments[number][name] = value
    return {**state, "state": moments}


def _own_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """The part of a whole state that this process has."""
    ours = [p for group in optimizer.param_groups for p in group["params"]]
    theirs = [number for group in state["param_groups"] for number in group["params"]]
    moments = {}
    for number, parameter in zip(theirs, ours, strict=True):
        values = state["state"].get(number, {})
        assert all(v.numel() for v in values.values() if isinstance(v, Tensor)), "not the first's"
        moments[number] = {
            name: part_like(value, parameter)
            if isinstance(value, Tensor) and value.shape == parameter.shape
            else value
            for name, value in values.items()
        }
    return {**state, "state": moments}
