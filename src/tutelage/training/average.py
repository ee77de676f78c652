"""The average of a student's weights over its training: it is what is looked at and kept.

Training itself goes on with the weights as they are.
"""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.trainer_callback import TrainerCallback, TrainerState

from tutelage.components import bind
from tutelage.errors import RunFolderError
from tutelage.models.shards import part_like, whole_tensor
from tutelage.numerics import as_float
from tutelage.schedules import AVERAGES

FILE = "average.safetensors"
"""The average so far, in a checkpoint."""


class AveragedWeights:
    """The average of the weights that are trained, in float32 or better.

    Of LoRA adapters each of the two matrices is averaged.

    Args:
        spec: ``{kind: name in AVERAGES, options}``.
        model: the student; what is frozen in it stays as it is.
        total_steps: of the plan.

    Attributes:
        count: how many weights are in it so far.

    Raises:
        ConfigError: unknown kind or option.
    """

    def __init__(self, spec: Mapping[str, Any], model: nn.Module, total_steps: int) -> None:
        options = {name: value for name, value in spec.items() if name != "kind"}
        self._weight = bind(AVERAGES, "average", spec["kind"], options)
        self._trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._total_steps = total_steps
        self._average: dict[str, Tensor] = {}
        self.count = 0

    @classmethod
    def of(cls, trainer: Any, spec: Mapping[str, Any] | None) -> "AveragedWeights | None":
        """That of a trainer with its plan; None where its weights are kept as they are."""
        return None if spec is None else cls(spec, trainer.student, trainer.plan.total_steps)

    def reset(self) -> None:
        """Forget everything: another training begins."""
        self._average, self.count = {}, 0

    @torch.no_grad()
    def observe(self, step: int) -> None:
        """Take the weights in as they are after a step (from 0)."""
        weight = self._weight(step, self._total_steps, self.count)
        if weight is None:
            return
        for name, parameter in self._trained.items():
            now = as_float(parameter.detach())
            if self.count == 0:
                self._average[name] = now.clone()
            else:
                self._average[name].lerp_(now, weight)
        self.count += 1

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The student has the average inside, and its own weights again afterwards."""
        own = {name: self._trained[name].detach().clone() for name in self._average}
        self.settle()
        try:
            yield
        finally:
            self._put(own)

    def settle(self) -> None:
        """Give the student the average for good; nothing where there is none yet."""
        self._put(self._average)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._trained[name].copy_(value)

    def save(self, folder: str | Path, *, write: bool) -> None:
        """Write the average so far into a checkpoint; all processes call it.

        Args:
            folder: the checkpoint.
            write: whether this process writes; the others give their parts.
        """
        whole = {name: whole_tensor(value) for name, value in self._average.items()}
        if write:
            save_file(whole, Path(folder) / FILE, {"count": str(self.count)})

    def load(self, folder: str | Path) -> None:
        """Take the average from a checkpoint.

        Raises:
            RunFolderError: it has none.
        """
        try:
            with safe_open(Path(folder) / FILE, framework="pt") as file:
                self.count = int((file.metadata() or {})["count"])
                self._average = {
                    name: part_like(file.get_tensor(name), self._trained[name])
                    for name in file.keys()  # noqa: SIM118 (it is no mapping)
                }
        except (OSError, SafetensorError, KeyError) as error:
            raise RunFolderError(
                f"The checkpoint '{folder}' has no average of these weights ({error}): it was made"
                " without `average`, or of another student. Begin anew, or leave `average` out."
            ) from error


def averaged(trainer: Any) -> contextlib.AbstractContextManager[None]:
    """Inside, the student of a trainer is what would be kept of it.

    Args:
        trainer: with ``average``, which is None where the weights are kept as they are.
    """
    return contextlib.nullcontext() if trainer.average is None else trainer.average.in_place()


class Averaging(TrainerCallback):
    """Take the weights in after every step, before anything looks at them; keep the average."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **keywords: Any) -> None:
        """A training from its beginning has no average yet."""
        if self._trainer.average is not None and state.global_step == 0:
            self._trainer.average.reset()

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **keywords: Any) -> None:
        """The step that was just made."""
        if self._trainer.average is not None:
            self._trainer.average.observe(state.global_step - 1)

    def on_train_end(self, args: Any, state: TrainerState, control: Any, **keywords: Any) -> None:
        """What was trained is its average; checkpoints have the weights themselves."""
        if self._trainer.average is not None:
            self._trainer.average.settle()
