"""How a student answers on on-policy steps, and what becomes of its answers."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from tutelage.errors import ConfigError
from tutelage.generation import Engine, GenerationSettings, LocalEngine
from tutelage.training.alarms import Alarms
from tutelage.training.settings import why_not_weighed

LOG = logging.getLogger(__name__)

_PRIME = 1_000_003
"""More than any step has visits, so that seeds of two places differ."""

EngineOf = Callable[[nn.Module, Any], Engine]
"""Gives what answers for a student, from it and the tokenizer."""


@dataclass(frozen=True)
class OwnAnswers:
    """How the student answers on on-policy steps (GKD), and how often it learns from an answer.

    Attributes:
        tokenizer: knows the end-of-sequence and padding tokens.
        settings: lengths and sampling; GKD samples at temperature 1.
        seed: of the sampling.
        engine: answers with the student as it is now, given the student and the tokenizer; it must
            give the tokens that it drew.
        horizon: most tokens of an answer at each step, shape ``[S]``; None: the settings'.
        prefix: share of the data's answer that is given with the prompt at each step, so that the
            student goes on from there, shape ``[S]``; None: nothing of it.
        reuse: updates that an answer is learned from, at most; see ``plan_reuse``.
        max_age: steps after which an answer is too old; None: never.
        most_kept: answers that are kept at once, at most; None for all.
        folder: where they are kept; None: ``rollouts`` in the trainer's output folder.
        forgets: remove answers that the plan does not ask for any more; not where another plan may
            follow.
        adaptive: ``{kind: name in TEXT_CONTROLLERS, options}``: decides at each on-policy step of
            the plan whether the student answers, learns from answers that are kept, or from the
            data; None: it answers at all of them, but for ``reuse``.
        alarms: when answers are said to go wrong.
        tell: called with such words.
        teacher_top_k: a token of the student that is not among so many of the teacher's likeliest
            gives way to one that the teacher draws; needs a live teacher; None: all stay.
        importance: a token of an answer that is learned from again counts as often as the student
            as it is now would come to where it stands, for once that the one that wrote it did,
            but at most so often; see ``training.importance``. None: as often as any other.

    References:
        Agarwal et al., On-Policy Distillation of Language Models, ICLR 2024, arXiv:2306.13649.
    """

    tokenizer: Any
    settings: GenerationSettings
    seed: int = 0
    engine: EngineOf = LocalEngine
    horizon: Sequence[float] | None = None
    prefix: Sequence[float] | None = None
    reuse: int = 1
    max_age: int | None = None
    most_kept: int | None = None
    folder: Path | None = None
    forgets: bool = True
    adaptive: Mapping[str, Any] | None = None
    alarms: Alarms = field(default_factory=Alarms)
    tell: Callable[[str], Any] = LOG.warning
    teacher_top_k: int | None = None
    importance: float | None = None

    def __post_init__(self) -> None:
        if self.adaptive is not None and self.reuse > 1:
            raise ConfigError(
                "An answer is learned from again as `adaptive` says or as `reuse` does: give one of"
                " the two."
            )
        if self.importance is not None:
            fault = why_not_weighed(
                self.importance,
                self.settings,
                kept=self.reuse > 1 or self.adaptive is not None,
                mended=self.teacher_top_k is not None,
            )
            if fault is not None:
                raise ConfigError(f"`importance` {fault}")

    def settings_at(self, step: int) -> GenerationSettings:
        """How answers of a step (from 0) are generated."""
        settings = replace(self.settings, logprobs=self.plainly_drawn)
        if self.horizon is None:
            return settings
        return replace(settings, max_new_tokens=max(1, round(self.horizon[step])))

    @property
    def plainly_drawn(self) -> bool:
        """Whether tokens are drawn from the student's own distribution, neither cut nor changed."""
        settings = self.settings
        whole = settings.sampling_temperature == settings.top_p == 1.0 and settings.top_k == 0
        return whole and self.teacher_top_k is None

    def seed_at(self, step: int, place: int) -> int:
        """The seed of one visit of a step; a prompt that is there twice gets two answers."""
        return (self.seed * _PRIME + step) * _PRIME + place
