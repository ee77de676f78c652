"""What a student's own answers are like: sums between two records, as ``sums.StepSums`` has them.

Distributions that collapse show in the text before they show in a loss: it goes in circles, does
not end, or is the same whatever is drawn.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.training.alarms import raised
from tutelage.training.loss import AGREED, KD_TOKENS
from tutelage.training.rollouts import Rollout

_GRAM = 4
"""Tokens of a piece that is looked for earlier in an answer."""

_NAMES = (
    *("answers", "tokens", "data_tokens", "ended", "long", "repetition", "learned"),
    *("surprise", "drawn_tokens", "kept", "mended_tokens"),
    *("weights", "squared_weights", "weighed_tokens"),
    *("agreed", "kd_tokens"),
)
"""What is summed, in this order."""


class OwnText:
    """Sums of one process over the student's own answers since the last record.

    Args:
        device: where the loss is computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._steps = 0
        self._sums = torch.zeros(len(_NAMES), dtype=torch.float64, device=device)

    def add_answers(
        self, written: Sequence[Rollout], data_lengths: Sequence[int], learned: int
    ) -> None:
        """Add what this process wrote for one on-policy step.

        Args:
            written: new answers.
            data_lengths: tokens of the data's answers in the same places, under the same limit.
            learned: how many answers the step learns from, new ones and others.
        """
        repeated = [repetition(one.tokens) for one in written]
        long = [share for share in repeated if share is not None]
        # The mean surprise at what is drawn estimates the entropy of the distributions.
        drawn = [one.logprobs for one in written if one.logprobs is not None]
        mended = [one for one in written if one.kept is not None]
        self._steps += 1
        self._add(
            answers=len(written),
            tokens=sum(len(one.tokens) for one in written),
            data_tokens=sum(data_lengths),
            ended=sum(not one.truncated for one in written),
            long=len(long),
            repetition=sum(long),
            learned=learned,
            surprise=-sum(float(one.double().sum()) for one in drawn),
            drawn_tokens=sum(map(len, drawn)),
            kept=sum(one.kept or 0 for one in mended),
            mended_tokens=sum(len(one.tokens) for one in mended),
        )

    def add_kept(self, kept: Sequence[Rollout]) -> None:
        """Add answers of earlier steps that such a step learns from, where their tokens weigh.

        Args:
            kept: the answers.
        """
        weights = [one.weights for one in kept if one.weights is not None]
        self._add(
            weights=sum(float(one.sum()) for one in weights),
            squared_weights=sum(float((one**2).sum()) for one in weights),
            weighed_tokens=sum(map(len, weights)),
        )

    def add_loss(self, parts: Tensor) -> None:
        """Add a micro-batch of such a step.

        Args:
            parts: of its loss, see ``StepPart``.
        """
        self._sums[-2:] += torch.stack([parts[AGREED], parts[KD_TOKENS]])

    def _add(self, **values: float) -> None:
        """Add numbers that are known on the CPU."""
        self._sums += self._sums.new_tensor([values.get(name, 0.0) for name in _NAMES])

    def record(self, steps: int, over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """What the answers since the last record are like; empty without an on-policy step.

        Args:
            steps: of all kinds since then.
            over_processes: gives the sum of a tensor over all processes.
        """
        if not self._steps:
            return {}
        s = dict(zip(_NAMES, over_processes(self._sums).tolist(), strict=True))
        ratios = {
            "own_length": (s["tokens"], s["answers"]),
            "own_relative_length": (s["tokens"], s["data_tokens"]),
            "own_ended": (s["ended"], s["answers"]),
            "own_repetition": (s["repetition"], s["long"]),
            "own_entropy": (s["surprise"], s["drawn_tokens"]),
            "own_agreement": (s["agreed"], s["kd_tokens"]),
            "own_reused": (s["learned"] - s["answers"], s["learned"]),
            "own_kept": (s["kept"], s["mended_tokens"]),
            "own_weight": (s["weights"], s["weighed_tokens"]),
            "own_effective": (s["weights"] ** 2, s["weighed_tokens"] * s["squared_weights"]),
        }
        self._steps = 0
        self._sums.zero_()
        return {
            "own_tokens": s["tokens"] / steps,
            **{name: above / below for name, (above, below) in ratios.items() if below},
        }

    def state(self) -> dict[str, Any]:
        """The record that is open, as plain values."""
        return {"steps": self._steps, **dict(zip(_NAMES, self._sums.tolist(), strict=True))}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on with a record that was open."""
        self._steps = state["steps"]
        self._sums.copy_(torch.tensor([state[name] for name in _NAMES], dtype=torch.float64))


def repetition(tokens: Sequence[int]) -> float | None:
    """Share of an answer's 4-grams that stood in it before; None where none could.

    Args:
        tokens: of the answer.
    """
    grams = list(zip(*(tokens[start:] for start in range(_GRAM)), strict=False))
    return 1.0 - len(set(grams)) / len(grams) if len(grams) > 1 else None


def watch(trainer: Any, record: dict[str, Any]) -> None:
    """Put the alarms that a record raises into it, and say them; with the first process alone.

    Args:
        trainer: at the step of the record; without on-policy steps nothing is done.
        record: what is about to be logged.
    """
    if trainer.on_policy is None:
        return
    own = trainer.own_answers
    found = raised(trainer.state.log_history, record, own.alarms)
    record.update(found)
    if trainer.is_world_process_zero():
        for words in found.values():
            own.tell(f"alarm at step {trainer.state.global_step:,}: {words}")
