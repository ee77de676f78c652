"""What a student's own answers are like: sums between two records, as ``sums.StepSums`` has them.

Distributions that collapse show in the text before they show in a loss: it goes in circles, does
not end, or is the same whatever is drawn.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tutelage.training.alarms import raised
from tutelage.training.loss import AGREED, CE, KD_TOKENS
from tutelage.training.rollouts import Rollout

_GRAM = 4
"""Tokens of a piece that is looked for earlier in an answer."""

_OF_ANSWERS = ("answers", "tokens", "data_tokens", "ended", "long", "repetition", "learned")
_OF_LOSSES = ("agreed", "kd_tokens", "surprise", "drawn_tokens")
_NAMES = (*_OF_ANSWERS, *_OF_LOSSES)
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
        values = {
            "answers": len(written),
            "tokens": sum(len(one.tokens) for one in written),
            "data_tokens": sum(data_lengths),
            "ended": sum(not one.truncated for one in written),
            "long": len(long),
            "repetition": sum(long),
            "learned": learned,
        }
        self._steps += 1
        self._sums[: len(_OF_ANSWERS)] += self._sums.new_tensor([values[n] for n in _OF_ANSWERS])

    def add_loss(self, parts: Tensor, num_tokens: Tensor | int, *, drawn: bool) -> None:
        """Add a micro-batch of such a step.

        Args:
            parts: of its loss, see ``StepPart``.
            num_tokens: response tokens of the whole step, by which its cross-entropy is divided.
            drawn: whether every token of the step was drawn from the distribution that the student
                has now: then cross-entropy estimates the entropy of that (with dropout, a little
                more).
        """
        tokens = parts[KD_TOKENS]
        surprise = parts[CE] * num_tokens
        added = [parts[AGREED], tokens, surprise * drawn, tokens * drawn]
        self._sums[len(_OF_ANSWERS) :] += torch.stack(added)

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
