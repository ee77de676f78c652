"""On-policy steps: the student answers the prompts of a step, and learns from its own answers.

The answers are data: nothing is differentiated through the sampling. The draw of an answer depends
on the seed, the step, the prompt and its place in the step alone, so a resumed run writes the same
answers, and so do any number of processes.
"""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.curriculum.reuse import plan_reuse
from tutelage.data.collate import IGNORED, collate
from tutelage.errors import ConfigError
from tutelage.generation import Engine, GenerationSettings, LocalEngine, SpeculativeEngine
from tutelage.training.alarms import Alarms
from tutelage.training.rollouts import Place, Rollout, RolloutStore
from tutelage.training.text_source import TextSource
from tutelage.training.visits import Visit, visits_of
from tutelage.types import Plan

LOG = logging.getLogger(__name__)

_PRIME = 1_000_003
"""More than any step has visits, so that seeds of two places differ."""

Batch = dict[str, Any]
EngineOf = Callable[[nn.Module, Any], Engine]
"""Gives what answers for a student, from it and the tokenizer."""

Encode = Callable[[Batch], list[Tensor]]
"""What the teacher says of the rows of a micro-batch."""


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

    def __post_init__(self) -> None:
        if self.adaptive is not None and self.reuse > 1:
            raise ConfigError(
                "An answer is learned from again as `adaptive` says or as `reuse` does: give one of"
                " the two."
            )

    def settings_at(self, step: int) -> GenerationSettings:
        """How answers of a step (from 0) are generated."""
        if self.horizon is None:
            return self.settings
        return replace(self.settings, max_new_tokens=max(1, round(self.horizon[step])))

    @property
    def plainly_drawn(self) -> bool:
        """Whether tokens are drawn from the student's own distribution, neither cut nor changed."""
        settings = self.settings
        whole = settings.sampling_temperature == settings.top_p == 1.0 and settings.top_k == 0
        return whole and self.teacher_top_k is None

    def seed_at(self, step: int, place: int) -> int:
        """The seed of one visit of a step; a prompt that is there twice gets two answers."""
        return (self.seed * _PRIME + step) * _PRIME + place


class OnPolicySteps:
    """Carries out the on-policy steps of a plan.

    Args:
        own: how the student answers.
        plan: the plan.
        folder: where rollouts are kept that are learned from again.
        process: number of this process.
        pad_token_id: fills the rows.
        device: where the teacher reads.

    Attributes:
        reuse: which visits write, and which learn from what is there.
        source: decides whose text a step learns from, where that is decided while training.
        written: the rollouts that this process wrote for the last step.
        pad_token_id: fills the rows.
    """

    def __init__(
        self,
        own: OwnAnswers,
        plan: Plan,
        folder: Path,
        process: int,
        pad_token_id: int,
        device: torch.device,
    ) -> None:
        self.own = own
        self.plan = plan
        self.reuse = plan_reuse(plan, own.reuse, own.max_age, own.most_kept)
        adaptive = own.adaptive
        self.source = None if adaptive is None else TextSource(adaptive, plan, own.seed)
        self.written: list[Rollout] = []
        self._store = RolloutStore(own.folder or folder, process)
        self._step_of = np.repeat(np.arange(plan.total_steps), np.diff(plan.offsets))
        self.pad_token_id = pad_token_id
        self._device = device

    @classmethod
    def of(cls, trainer: Any, pad_token_id: int) -> "OnPolicySteps | None":
        """Those of a trainer's plan; None where it has none.

        Raises:
            ConfigError: it has some, and how the student answers was not said; or there is nothing
                to look at for whoever decides whether it does.
        """
        plan, own, args = trainer.plan, trainer.own_answers, trainer.args
        rows = trainer.eval_dataset
        if not plan.on_policy.any():
            return None
        if own is None:
            raise ConfigError(
                "The plan has on-policy steps, and how the student answers on them was not said."
                " Pass `own_answers=OwnAnswers(tokenizer, GenerationSettings(...))`."
            )
        if own.adaptive is not None and (rows is None or isinstance(rows, dict) or not len(rows)):
            raise ConfigError(
                "on_policy.adaptive needs data.validation: the loss on it decides when the student"
                " learns from its own answers. Give validation rows (to the trainer as"
                " `eval_dataset`, one set of them), or leave `adaptive` out."
            )
        folder = Path(str(args.output_dir)) / "rollouts"
        return cls(own, plan, folder, args.process_index, pad_token_id, args.device)

    def answered(self, trainer: Any, batches: Sequence[Batch]) -> list[Batch]:
        """The micro-batches of this process in one step with the student's answers in them.

        Args:
            trainer: with the student, and the teacher where the step asks one.
            batches: as the collator made them.
        """
        step = batches[0]["step"]
        keeps = self.own.reuse > 1 or self.source is not None
        asks = keeps and trainer.step_values(step).needs_teacher
        made = self.answered_by(
            trainer.student,
            batches,
            trainer.step_loss.teacher_states if asks else None,
            self._engine(trainer, step),
        )
        if "drawn" in made[0]:  # and not the data's, after all
            visits = {visit.place: visit for batch in batches for visit in visits_of(batch)}
            limit = self.own.settings_at(step).max_new_tokens
            left = [len(visits[one.place].tokens) - len(one.prompt) for one in self.written]
            data_lengths = [min(tokens, limit) for tokens in left]
            trainer.sums.own.add_answers(self.written, data_lengths, len(visits))
        return made

    def _engine(self, trainer: Any, step: int) -> EngineOf:
        """What the student answers with at a step."""
        top_k = self.own.teacher_top_k
        if top_k is None:
            return self.own.engine
        teacher = trainer.step_loss.teacher_model(step)
        return functools.partial(SpeculativeEngine, teacher=teacher, top_k=top_k)

    def answered_by(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        encode: Encode | None,
        engine: EngineOf | None = None,
    ) -> list[Batch]:
        """The same, from a student and what its teacher says of rows; None to ask nobody."""
        step = batches[0]["step"]
        visits = [visit for batch in batches for visit in visits_of(batch)]
        sources = self._sources(step, visits)
        if sources is None:
            self.written = []
            return list(batches)
        found = self._kept(step, {s for place, s in sources.items() if s != (step, place)})
        # What is damaged or in another machine's folder is written anew.
        missing = [visit for visit in visits if sources[visit.place] not in found]
        asked = (engine or self.own.engine)(model, self.own.tokenizer)
        self.written = self._write(asked, step, missing)
        rollouts = [*self.written]
        for visit in visits:
            if sources[visit.place] in found:
                rollouts.append(found[sources[visit.place]])
        keeps = self._kept_places(step)
        # Rows that come with what the teacher said stand beside rows that must have it too.
        made = self._batches(step, rollouts, len(batches), encode if keeps or found else None)
        if encode is not None or self.source is not None:
            kept = [one for one in made.rollouts if one.step == step and one.place in keeps]
            self._store.write(step, kept)
        drawn = self._drawn(step, sources)
        return [{**batch, "drawn": drawn} for batch in made.batches]

    def _drawn(self, step: int, sources: Mapping[int, Place]) -> bool:
        """Whether every answer of a step is new, and drawn from the student as it is.

        It is so of the whole step, so that a log does not depend on how it is cut up.
        """
        if self.source is not None:  # then all of them are, or none
            new = all(wrote == (step, place) for place, wrote in sources.items())
        else:
            visits = np.arange(self.plan.offsets[step], self.plan.offsets[step + 1])
            new = bool((self.reuse.source[visits] == visits).all())
        return new and self.own.plainly_drawn

    def _kept_places(self, step: int) -> set[int]:
        """Of the rollouts that are written at a step, those that are learned from again."""
        visits = slice(self.plan.offsets[step], self.plan.offsets[step + 1])
        again = self.reuse.again[visits]
        if self.source is not None or (not self.own.forgets and self.own.reuse > 1):
            again = np.ones_like(again)
        return set(np.flatnonzero(again).tolist())

    def forget(self, oldest: int) -> None:
        """Remove what no step from ``oldest`` on learns from."""
        if self.source is not None:
            first = self.source.first_asked(oldest)
            self._store.forget([step for step in self._store.steps if step < first])
        elif self.own.forgets:
            last = self.reuse.last_use
            self._store.forget([step for step in self._store.steps if last[step] < oldest])

    def clear(self) -> None:
        """Remove all that was kept."""
        self._store.clear()

    def _sources(self, step: int, visits: Sequence[Visit]) -> dict[int, Place] | None:
        """Which rollout each visit learns from, by place; None where all learn from the data."""
        if self.source is None:
            return {visit.place: self._source(step, visit.place) for visit in visits}
        taken = self.source.take(step)
        return None if taken is None else {visit.place: taken[visit.place] for visit in visits}

    def _kept(self, step: int, places: set[Place]) -> dict[Place, Rollout]:
        """Rollouts of earlier steps; what another teacher said of one is left out."""
        found = self._store.read(places)
        teacher = self.plan.teacher_of(step)
        return {
            place: one if self.plan.teacher_of(place[0]) == teacher else replace(one, states=None)
            for place, one in found.items()
        }

    def _source(self, step: int, place: int) -> Place:
        """Which rollout a visit learns from, by the plan."""
        first = self.plan.offsets[step]
        visit = int(self.reuse.source[first + place])
        wrote = int(self._step_of[visit])
        return wrote, visit - int(self.plan.offsets[wrote])

    def _write(self, engine: Engine, step: int, visits: Sequence[Visit]) -> list[Rollout]:
        """The student's answers to the prompts of some visits of a step."""
        if not visits:
            return []
        share = 0.0 if self.own.prefix is None else self.own.prefix[step]
        prompts = [visit.prompt_with(share) for visit in visits]
        seeds = [self.own.seed_at(step, visit.place) for visit in visits]
        answers = engine.answer(prompts, self.own.settings_at(step), seed=seeds)
        return [
            Rollout(
                visit.id,
                step,
                visit.place,
                prompt,
                answer.tokens,
                answer.truncated,
                answer.logprobs,
            )
            for visit, prompt, answer in zip(visits, prompts, answers, strict=True)
        ]

    def _batches(
        self, step: int, rollouts: Sequence[Rollout], count: int, encode: Encode | None
    ) -> "_Made":
        """Rollouts as so many micro-batches, of neighbours in length.

        Args:
            step: of the plan.
            rollouts: all of this process.
            count: of micro-batches; those without a row have a filler.
            encode: asks the teacher about rollouts that have no states yet.
        """
        ordered = sorted(rollouts, key=lambda r: (len(r.prompt) + len(r.tokens), r.step, r.place))
        made = _Made([], [])
        for part in np.array_split(np.arange(len(ordered)), count):
            rows = [ordered[number] for number in part]
            if encode is not None:
                rows = self._encoded(step, rows, encode)
            batch = self._batch(step, rows)
            if encode is not None:
                batch["states"] = [one.states for one in rows]
            made.batches.append(batch)
            made.rollouts.extend(rows)
        return made

    def _encoded(self, step: int, rows: Sequence[Rollout], encode: Encode) -> list[Rollout]:
        """The same rollouts, each with what the teacher says of it."""
        new = [one for one in rows if one.states is None]
        if not new:
            return list(rows)
        batch = self._batch(step, new)
        tensors = {k: v.to(self._device) for k, v in batch.items() if isinstance(v, Tensor)}
        states = dict(zip(map(id, new), encode({**batch, **tensors}), strict=True))
        return [replace(one, states=states.get(id(one), one.states)) for one in rows]

    def _batch(self, step: int, rows: Sequence[Rollout]) -> Batch:
        return {
            **collate([_row(one) for one in rows] or [None], self.pad_token_id),
            "step": step,
            "ids": [one.id for one in rows],
            "places": [one.place for one in rows],
            "of_student": True,
        }


@dataclass(frozen=True)
class _Made:
    """Micro-batches, and the rollouts in them in the same order."""

    batches: list[Batch]
    rollouts: list[Rollout]


def _row(rollout: Rollout) -> dict[str, list[int]]:
    return {
        "input_ids": [*rollout.prompt, *rollout.tokens],
        "labels": [IGNORED] * len(rollout.prompt) + list(rollout.tokens),
    }
