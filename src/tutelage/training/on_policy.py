"""On-policy steps: the student answers the prompts of a step, and learns from its own answers.

The answers are data: nothing is differentiated through the sampling. The draw of an answer depends
on the seed, the step, the prompt and its place in the step alone, so a resumed run writes the same
answers, and so do any number of processes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tutelage.curriculum.reuse import plan_reuse
from tutelage.data.collate import IGNORED, collate
from tutelage.devices import sent
from tutelage.errors import ConfigError
from tutelage.generation import Answer, SpeculativeEngine
from tutelage.training.importance import drawn_log_probs, prefix_weights, with_mean_one
from tutelage.training.own_answers import EngineOf, OwnAnswers
from tutelage.training.rollouts import ROLLOUTS, Place, Rollout, RolloutStore
from tutelage.training.settings import parts_of
from tutelage.training.text_source import TextSource
from tutelage.training.visits import Visit, visits_of
from tutelage.types import Plan

Batch = dict[str, Any]
Encode = Callable[[Batch], list[Tensor]]
"""What the teacher says of the rows of a micro-batch."""


class OnPolicySteps:
    """Carries out the on-policy steps of a plan.

    Args:
        own: how the student answers.
        plan: the plan.
        folder: where rollouts are kept that are learned from again.
        process: number of this process.
        pad_token_id: fills the rows.
        device: where the teacher reads.
        sampled: whether the loss looks at the drawn tokens alone, see ``DistillSettings``.

    Attributes:
        reuse: which visits write, and which learn from what is there.
        source: decides whose text a step learns from, where that is decided while training.
        written: the rollouts that this process wrote for the last step.
        learned: all that it learns from in that step.
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
        *,
        sampled: bool = False,
    ) -> None:
        self.own = own
        self.plan = plan
        self.reuse = plan_reuse(plan, own.reuse, own.max_age, own.most_kept)
        adaptive = own.adaptive
        self.source = None if adaptive is None else TextSource(adaptive, plan, own.seed)
        self.written: list[Rollout] = []
        self.learned: list[Rollout] = []
        self._store = RolloutStore(own.folder or folder, process)
        self._step_of = np.repeat(np.arange(plan.total_steps), np.diff(plan.offsets))
        self.pad_token_id = pad_token_id
        self._device = device
        self._sampled = sampled
        self._last_asked = self._last_step_that_asks()

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
        if own.teacher_top_k is not None and _is_cut(args):
            raise ConfigError(
                f"A teacher that is cut over the processes (shard={args.shard}) must be asked by"
                " all of them equally often, and with `teacher_top_k` each asks as often as its"
                " answers are mended. Leave it out, or cut the student alone."
            )
        folder = Path(str(args.output_dir)) / ROLLOUTS
        place = (folder, args.process_index, pad_token_id, args.device)
        return cls(own, plan, *place, sampled=args.sampled)

    def answered(self, trainer: Any, batches: Sequence[Batch]) -> list[Batch]:
        """The micro-batches of this process in one step with the student's answers in them.

        Args:
            trainer: with the student, and the teacher where the step asks one.
            batches: as the collator made them.
        """
        step = batches[0]["step"]
        keeps = self.own.reuse > 1 or self.source is not None
        asks = keeps and trainer.step_values(step).needs_teacher
        if keeps and trainer.hosts is not None:
            trainer.hosts.share(self.folder)
        made = self.answered_by(
            trainer.student,
            batches,
            trainer.step_loss.teacher_states if asks else None,
            self._engine(trainer, step),
            trainer.most if _is_cut(trainer.args) else None,
        )
        if made[0].get("of_student"):  # and not the data's, after all
            self._tell(trainer, step, [visit for batch in batches for visit in visits_of(batch)])
            if self.own.importance is not None:
                made = with_mean_one(made, trainer.over_processes, self._device)
        if asks and step > self._last_asked and not self.written:
            trainer.step_loss.rest(step)
        return made

    @property
    def folder(self) -> Path:
        """Where rollouts are kept."""
        return self._store.folder

    def _last_step_that_asks(self) -> int:
        """After this step no teacher has anything to read, unless an answer is lost.

        What it says of answers that are learned from again is kept, and made of its head alone.
        """
        if self.own.reuse == 1 or not self.own.forgets:
            return self.plan.total_steps
        writes = self.reuse.source == np.arange(len(self.reuse.source))
        asks = self.plan.takes_logits & ~self.plan.on_policy
        asks[self._step_of[writes]] = True
        return int(np.flatnonzero(asks).max(initial=0))

    def _tell(self, trainer: Any, step: int, visits: Sequence[Visit]) -> None:
        """Add what was written and what is learned to the sums of a trainer."""
        by_place = {visit.place: visit for visit in visits}
        limit = self.own.settings_at(step).max_new_tokens
        left = [len(by_place[one.place].tokens) - len(one.prompt) for one in self.written]
        data_lengths = [min(tokens, limit) for tokens in left]
        trainer.sums.own.add_answers(self.written, data_lengths, len(visits))
        trainer.sums.own.add_kept([one for one in self.learned if one.step != step])

    def _engine(self, trainer: Any, step: int) -> EngineOf:
        """What the student answers with at a step."""
        top_k = self.own.teacher_top_k
        if top_k is None:
            return self.own.engine

        def mended(model: nn.Module, tokenizer: Any) -> SpeculativeEngine:
            teacher = trainer.step_loss.teacher_model(step)
            return SpeculativeEngine(model, tokenizer, teacher=teacher, top_k=top_k)

        return mended

    def answered_by(
        self,
        model: nn.Module,
        batches: Sequence[Batch],
        encode: Encode | None,
        engine: EngineOf | None = None,
        most: Callable[[int], int] | None = None,
    ) -> list[Batch]:
        """The same, from a student and what its teacher says of rows; None to ask nobody.

        Args:
            model: the student.
            batches: as the collator made them.
            encode: asks the teacher.
            engine: what answers; None: as it was said.
            most: where the teacher is in parts over the processes, which must ask it equally
                often: gives the most of a number of theirs.
        """
        step = batches[0]["step"]
        visits = [visit for batch in batches for visit in visits_of(batch)]
        sources = self._sources(step, visits)
        if sources is None:
            self.written, self.learned = [], []
            return list(batches)
        found = self._kept(step, {s for place, s in sources.items() if s != (step, place)})
        # What is damaged is written anew.
        missing = [visit for visit in visits if sources[visit.place] not in found]
        self.written = self._write(model, engine or self.own.engine, step, missing)
        again = [found[sources[visit.place]] for visit in visits if sources[visit.place] in found]
        rollouts = [*self.written, *again]
        if self.own.importance is not None:
            rollouts = self._weighed(model, step, rollouts, self.own.importance)
        keeps = self._kept_places(step)
        # Rows that come with what the teacher said stand beside rows that must have it too.
        asked = encode if keeps or found or most is not None else None
        made = self._batches(step, rollouts, len(batches), asked, most)
        if encode is not None or self.source is not None:
            kept = [one for one in made.rollouts if one.step == step and one.place in keeps]
            if self.own.importance is None:
                kept = [replace(one, logprobs=None) for one in kept]
            self._store.write(step, kept)
        self.learned = made.rollouts
        return made.batches

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
        if self.own.importance is not None:
            found = {place: one for place, one in found.items() if one.logprobs is not None}
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

    def _write(
        self, model: nn.Module, engine: EngineOf, step: int, visits: Sequence[Visit]
    ) -> list[Rollout]:
        """The student's answers to the prompts of some visits of a step."""
        if not visits:
            return []
        share = 0.0 if self.own.prefix is None else self.own.prefix[step]
        prompts = [visit.prompt_with(share) for visit in visits]
        seeds = [self.own.seed_at(step, visit.place) for visit in visits]
        asked = engine(model, self.own.tokenizer)
        settings = self.own.settings_at(step)
        if isinstance(asked, SpeculativeEngine):
            mended = asked.mended(prompts, settings, seed=seeds)
            answers = [one.answer for one in mended]
            # The teacher has read them: what it says of them is at hand.
            known: list[dict[str, Any]] = [
                {"kept": one.kept, "states": one.states} for one in mended
            ]
        else:
            answers = asked.answer(prompts, settings, seed=seeds)
            known = [_surprise(one) for one in answers]
        rows = zip(visits, prompts, answers, known, strict=True)
        written = [
            Rollout(v.id, step, v.place, prompt, answer.tokens, answer.truncated, **more)
            for v, prompt, answer, more in rows
        ]
        if self.own.importance is None:
            return written
        scores = drawn_log_probs(model, written, self.own)
        return [replace(one, logprobs=found) for one, found in zip(written, scores, strict=True)]

    def _weighed(
        self, model: nn.Module, step: int, rollouts: Sequence[Rollout], clip: float
    ) -> list[Rollout]:
        """The same rollouts, each token with its weight, which is 1 in those that are new."""
        old = [one for one in rollouts if one.step != step]
        weights = {}
        for one, now_n in zip(old, drawn_log_probs(model, old, self.own), strict=True):
            assert one.logprobs is not None
            found = prefix_weights(now_n, one.logprobs, clip, through=self._sampled)
            weights[one.step, one.place] = found
        return [
            replace(
                one,
                weights=weights.get((one.step, one.place), torch.ones(len(one.tokens)).double()),
            )
            for one in rollouts
        ]

    def _batches(
        self,
        step: int,
        rollouts: Sequence[Rollout],
        count: int,
        encode: Encode | None,
        most: Callable[[int], int] | None,
    ) -> "_Made":
        """Rollouts as so many micro-batches, of neighbours in length.

        Args:
            step: of the plan.
            rollouts: all of this process.
            count: of micro-batches; those without a row have a filler.
            encode: asks the teacher about rollouts that have no states yet.
            most: see ``answered_by``.
        """
        ordered = sorted(rollouts, key=lambda r: (len(r.prompt) + len(r.tokens), r.step, r.place))
        numbers = np.array_split(np.arange(len(ordered)), count)
        parts, made = [[ordered[i] for i in part] for part in numbers], _Made([], [])
        if encode is not None and most is not None:
            asks = sum(any(one.states is None for one in rows) for rows in parts)
            # Once at least: asking is what brings the teacher's head here, too.
            for _ in range(max(most(asks), 1) - asks):
                encode(self._sent(step, []))
        for rows in parts:
            if encode is not None:
                rows = self._encoded(step, rows, encode)
            batch = self._batch(step, rows)
            if all(one.states is not None for one in rollouts) or encode is not None:
                batch["states"] = [one.states for one in rows]
            if self.own.importance is not None:
                batch["weights"] = [one.weights for one in rows]
            made.batches.append(batch)
            made.rollouts.extend(rows)
        return made

    def _encoded(self, step: int, rows: Sequence[Rollout], encode: Encode) -> list[Rollout]:
        """The same rollouts, each with what the teacher says of it."""
        new = [one for one in rows if one.states is None]
        if not new:
            return list(rows)
        states = dict(zip(map(id, new), encode(self._sent(step, new)), strict=True))
        return [replace(one, states=states.get(id(one), one.states)) for one in rows]

    def _sent(self, step: int, rows: Sequence[Rollout]) -> Batch:
        """A micro-batch as a teacher reads it."""
        batch = self._batch(step, rows)
        return {**batch, "input_ids": sent(batch["input_ids"], self._device)}

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


def _is_cut(args: Any) -> bool:
    """Whether the teacher is in parts over the processes."""
    return parts_of(args.shard, "teacher", args.world_size) > 1


def _row(rollout: Rollout) -> dict[str, list[int]]:
    return {
        "input_ids": [*rollout.prompt, *rollout.tokens],
        "labels": [IGNORED] * len(rollout.prompt) + list(rollout.tokens),
    }


def _surprise(answer: Answer) -> dict[str, Tensor]:
    """How likely the student found each token that it drew, where the engine says it."""
    return {} if answer.logprobs is None else {"logprobs": torch.tensor(answer.logprobs)}
