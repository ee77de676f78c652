"""What a training adds up: parts of the loss between two records, and what a controller sees."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tutelage.training.loss import CE, KD, KD_TOKENS, TARGET_ENTROPY
from tutelage.training.own_text import OwnText
from tutelage.training.step_loss import StepPart

_PARTS = slice(CE, KD_TOKENS + 1)
"""Of the parts of a loss those that are logged; the entropy of the target is not."""

_LOSS, _ROUTERS, _STATES = KD_TOKENS + 1, KD_TOKENS + 2, slice(KD_TOKENS + 3, KD_TOKENS + 5)
_NAMES = ("ce", "kd", "agreed", "kd_tokens", "loss", "routers", "states", "state_tokens")
"""What is summed for a record, in this order: the logged parts, then the whole loss, routers,
distances between states and the tokens that these are of."""


class StepSums:
    """Sums of one process since the last record.

    They stay on the device: a number that is read waits for the whole step.

    Args:
        device: where the loss is computed.

    Attributes:
        response_tokens: of all processes.
        logged_step: the step of the last record.
        own: of the student's own answers.
    """

    def __init__(self, device: torch.device) -> None:
        self.response_tokens = torch.zeros((), dtype=torch.int64, device=device)
        self.logged_step = 0
        self.own = OwnText(device)
        self._sums = torch.zeros(len(_NAMES), dtype=torch.float64, device=device)
        self._observed = torch.zeros(2, dtype=torch.float64, device=device)

    def add(
        self,
        part: StepPart,
        kd_weight: float,
        *,
        own: bool = False,
    ) -> None:
        """Add a micro-batch.

        Args:
            part: of the step's loss.
            kd_weight: what its temperature multiplies distillation by: a controller sees the loss,
                not that weight.
            own: whether it is of the student's own answers.
        """
        parts = part.parts
        if own:
            self.own.add_loss(parts)
        self._observed[0] += parts[KD] / kd_weight + parts[TARGET_ENTROPY]
        self._observed[1] += parts[KD_TOKENS]
        self._sums[_PARTS] += parts[_PARTS]
        self._sums[_LOSS] += part.total.detach()
        if part.routers is not None:
            self._sums[_ROUTERS] += part.routers.detach()
        if part.states is not None:
            self._sums[_STATES] += part.states

    def observed(self, over_processes: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """What distillation lost in the step just made, and at how many tokens."""
        loss, tokens = over_processes(self._observed).tolist()
        self._observed.zero_()
        return loss, tokens

    def record(
        self, step: int, over_processes: Callable[[Tensor], Tensor], *, with_routers: bool
    ) -> dict[str, float]:
        """Means over the steps since the last record; the next one begins here.

        Args:
            step: the steps done.
            over_processes: gives the sum of a tensor over all processes.
            with_routers: whether there is an auxiliary loss to tell.
        """
        steps = step - self.logged_step
        sums = dict(zip(_NAMES, over_processes(self._sums).tolist(), strict=True))
        means = {"loss": sums["loss"] / steps, "ce": sums["ce"] / steps}
        if sums["kd_tokens"]:
            means["kd"] = sums["kd"] / steps
            means["token_agreement"] = sums["agreed"] / sums["kd_tokens"]
        if with_routers:
            means["router_loss"] = sums["routers"] / steps
        if sums["state_tokens"]:
            means["state_gap"] = sums["states"] / sums["state_tokens"]
        means["response_tokens"] = int(self.response_tokens) / steps
        means |= self.own.record(steps, over_processes)
        self.logged_step = step
        self._sums.zero_()
        self.response_tokens.zero_()
        return means

    def state(self) -> dict[str, Any]:
        """The record that is open, as plain values."""
        return {
            "logged_step": self.logged_step,
            "sums": dict(zip(_NAMES, self._sums.tolist(), strict=True)),
            "response_tokens": int(self.response_tokens),
            "own": self.own.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on with a record that was open."""
        self.logged_step = state["logged_step"]
        # A record of before there were distances between states has none.
        sums = [state["sums"].get(name, 0.0) for name in _NAMES]
        self._sums.copy_(torch.tensor(sums, dtype=torch.float64))
        self.response_tokens.fill_(state["response_tokens"])
        self.own.load(state["own"])
