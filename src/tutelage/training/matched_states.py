"""Matching hidden states while training: the distance of ``state_maps``, a micro-batch at a time.

Nothing of it is trained and nothing is left in the student. Moments are those of the steps before,
forgotten as tokens come in; so a token's part does not depend on how its step is cut over
micro-batches and processes. The states themselves cost nothing where a store or a live teacher has
them anyway.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.trainer_callback import TrainerCallback, TrainerState

from tutelage.errors import ConfigError, RunFolderError
from tutelage.numerics import as_float
from tutelage.training.state_maps import EVERY, Maps, Moments, best_maps

# Shape suffixes: N response tokens, H width of the student, G of the teacher.

FILE = "states.safetensors"
"""The moments so far, in a checkpoint."""

MEMORY = 16
"""Tokens that moments remember for each coordinate of the wider model: enough for a map, few enough
to follow a student that moves. Of the teacher, which does not, as many times more as its tokens
come in less often."""

ENOUGH = 4
"""Tokens for each coordinate of the wider model before anything is matched."""


_PAIRS = {"own": (0, 0), "cross": (0, 1), "teacher": (1, 1)}
"""Moments by name, and which states they are of: the student's (0), the teacher's (1)."""


class MatchedStates:
    """The distance between the states of student and teacher, a micro-batch at a time.

    Args:
        weight: of S in the loss.
        floor: f.
        device: where states are compared.
    """

    def __init__(self, weight: float, floor: float, device: torch.device) -> None:
        self.weight = weight
        self._floor = floor
        self._device = device
        self.reset()

    def reset(self) -> None:
        """Forget everything: another training begins."""
        self._widths = (0, 0)
        self._moments: dict[str, Moments] = {}
        self._sums: dict[str, Tensor] = {}
        self._maps: Maps | None = None
        self._steps = 0

    @property
    def is_ready(self) -> bool:
        """Whether there were enough tokens to match by."""
        return self._maps is not None

    @property
    def _taken_in(self) -> tuple[str, ...]:
        """The moments that the tokens of this step go into."""
        often = self._maps is None or self._steps % EVERY == 0
        return ("own", "cross", "teacher") if often else ("own", "cross")

    def __call__(
        self, student_NH: Tensor, teacher_NG: Tensor, weights_N: Tensor | None = None
    ) -> Tensor:
        """S summed over tokens, 0 without a graph before there were enough; float64, shape ``[]``.

        Args:
            student_NH: the student's states; the tokens are taken into the moments of later steps.
            teacher_NG: the teacher's.
            weights_N: how much each token counts in the sum; None for all alike.

        Raises:
            ConfigError: what the teacher gives is no hidden states.
        """
        if not teacher_NG.is_floating_point():
            raise ConfigError(
                "`state_weight` matches hidden states, and this teacher is known by its likeliest"
                " tokens alone. Store hidden states (signal hidden), run the teacher beside the"
                " student (live), or leave `state_weight` out."
            )
        if len(student_NH) == 0:
            return student_NH.new_zeros((), dtype=torch.float64)
        student_NH, teacher_NG = as_float(student_NH), as_float(teacher_NG)
        self._take_in(student_NH.detach(), teacher_NG)
        if self._maps is None:
            return student_NH.new_zeros((), dtype=torch.float64)
        gap_N = self._maps.gap(student_NH, teacher_NG)
        return (gap_N if weights_N is None else gap_N * weights_N).sum(dtype=torch.float64)

    @torch.no_grad()
    def _take_in(self, student_NH: Tensor, teacher_NG: Tensor) -> None:
        self._widths = (student_NH.shape[-1], teacher_NG.shape[-1])
        so_far, states = self._so_far(), (student_NH, teacher_NG)
        for name in self._taken_in:
            left, right = _PAIRS[name]
            sums = so_far[name].sums(states[left], states[right])
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def _so_far(self) -> dict[str, Moments]:
        if not self._moments:
            widths, device = self._widths, self._device
            return {n: Moments.none(widths[a], widths[b], device) for n, (a, b) in _PAIRS.items()}
        return self._moments

    @torch.no_grad()
    def settle(self, over_processes: Callable[[Tensor], Tensor]) -> None:
        """Take the tokens of a step in, when it is done; called on all processes.

        Args:
            over_processes: gives the sum of a tensor over all processes.
        """
        if not self._moments:
            # A process whose rows were fillers alone has not seen how wide the models are.
            known = (*self._widths, int(bool(self._sums)))
            *widths, seen = over_processes(torch.tensor(known, device=self._device)).tolist()
            if not seen:
                return
            self._widths = (widths[0] // seen, widths[1] // seen)
        so_far, memory = self._so_far(), float(MEMORY * max(self._widths))
        memories = {"own": memory, "cross": memory, "teacher": EVERY * memory}
        mine = [
            self._sums.get(name, so_far[name].product_AB.new_zeros(sum(so_far[name].sizes)))
            for name in self._taken_in
        ]
        sums = over_processes(torch.cat(mine))
        if float(sums[0]):
            parts = zip(self._taken_in, sums.split([len(one) for one in mine]), strict=True)
            self._moments = so_far | {
                name: so_far[name].with_sums(part, memories[name]) for name, part in parts
            }
            self._find_maps()
        self._sums = {}
        self._steps += 1

    def _find_maps(self) -> None:
        if float(self._moments["own"].count) >= ENOUGH * max(self._widths):
            self._maps = best_maps(**self._moments, floor=self._floor)

    def save(self, folder: str | Path) -> None:
        """Write the moments into a checkpoint."""
        found = {"widths": torch.tensor(self._widths), "steps": torch.tensor(self._steps)}
        for name, moments in self._moments.items():
            found |= {f"{name}.{part}": value.contiguous() for part, value in vars(moments).items()}
        save_file(found, Path(folder) / FILE)

    def load(self, folder: str | Path) -> None:
        """Take the moments from a checkpoint.

        Raises:
            RunFolderError: it has none.
        """
        self.reset()
        try:
            found = load_file(Path(folder) / FILE, device=str(self._device))
        except (OSError, SafetensorError) as error:
            raise RunFolderError(
                f"The checkpoint '{folder}' has no moments of hidden states ({error}): it was made"
                " without `state_weight`. Begin anew, or leave `state_weight` out."
            ) from error
        student, teacher = found.pop("widths").tolist()
        self._widths, self._steps = (student, teacher), int(found.pop("steps"))
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in found.items():
            name, _, part = key.partition(".")
            parts.setdefault(name, {})[part] = value
        self._moments = {name: Moments(**values) for name, values in parts.items()}
        if self._moments:
            self._find_maps()


class MatchStates(TrainerCallback):
    """Take the tokens of every step in when it is done."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **keywords: Any) -> None:
        """A training from its beginning knows nothing yet."""
        if self._trainer.states is not None and state.global_step == 0:
            self._trainer.states.reset()

    def on_step_end(self, *arguments: Any, **keywords: Any) -> None:
        """The step that was just made."""
        if self._trainer.states is not None:
            self._trainer.states.settle(self._trainer.over_processes)
