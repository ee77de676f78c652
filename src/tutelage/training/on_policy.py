"""On-policy steps: the student answers the prompts of a batch, and learns from its own answers.

The answers are data: nothing is differentiated through the sampling. The draw of an answer depends
on the seed, the step, the prompt and its place in the step alone, so a resumed run writes the same
answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.data.collate import IGNORED, collate
from tutelage.errors import ConfigError
from tutelage.generation import Engine, GenerationSettings, LocalEngine
from tutelage.types import Plan


@dataclass(frozen=True)
class OwnAnswers:
    """How the student answers on on-policy steps (GKD).

    Attributes:
        tokenizer: knows the end-of-sequence and padding tokens.
        settings: lengths and sampling; GKD samples at temperature 1.
        seed: of the sampling.
        engine: answers with the student as it is now, given the student and the tokenizer; it must
            give the tokens that it drew.

    References:
        Agarwal et al., On-Policy Distillation of Language Models, ICLR 2024, arXiv:2306.13649.
    """

    tokenizer: Any
    settings: GenerationSettings
    seed: int = 0
    engine: Callable[[nn.Module, Any], Engine] = LocalEngine

    def answered(
        self, model: nn.Module, batches: Sequence[dict[str, Any]], process: int, pad_token_id: int
    ) -> list[dict[str, Any]]:
        """The micro-batches of a process in one step with the student's own answers.

        Args:
            model: the student.
            batches: as the collator made them.
            process: number of the process.
            pad_token_id: fills the rows.
        """
        first = process * len(batches)
        return [
            self.replace(model, batch, first + number, pad_token_id)
            for number, batch in enumerate(batches)
        ]

    def replace(
        self, model: nn.Module, batch: Mapping[str, Any], place: int, pad_token_id: int
    ) -> dict[str, Any]:
        """The batch with the student's answers in place of the data's.

        Args:
            model: the student.
            batch: a micro-batch as the collator made it.
            place: number of the micro-batch among all of its step, over all processes.
            pad_token_id: fills the rows.
        """
        prompts = [
            prompt
            for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)
            if (prompt := _prompt(ids, labels))
        ]
        if not prompts:
            return dict(batch)
        # One for each row: a prompt that is there twice is to get two answers.
        first = (self.seed * 1_000_003 + batch["step"] * 1_009 + place) * 1_009
        seeds = range(first, first + len(prompts))
        engine = self.engine(model, self.tokenizer)
        answers = engine.answer(prompts, self.settings, seed=seeds)
        rows = [
            {
                "input_ids": [*prompt, *answer.tokens],
                "labels": [IGNORED] * len(prompt) + list(answer.tokens),
            }
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        device = batch["input_ids"].device
        tensors = {k: v.to(device) for k, v in collate(rows, pad_token_id).items()}
        return {**batch, **tensors}


def check_on_policy(plan: Plan, own_answers: OwnAnswers | None) -> None:
    """Raise a ``ConfigError`` where a plan has on-policy steps and nobody said how to answer."""
    if own_answers is None and plan.on_policy.any():
        raise ConfigError(
            "The plan has on-policy steps, and how the student answers on them was not said."
            " Pass `own_answers=OwnAnswers(tokenizer, GenerationSettings(...))`."
        )


def _prompt(ids_T: Tensor, labels_T: Tensor) -> list[int]:
    """Tokens before the first label; empty for a row without response tokens."""
    labelled = torch.nonzero(labels_T != IGNORED)
    return [] if not len(labelled) else ids_T[: int(labelled[0])].tolist()
