"""Whose text each step learns from, when a controller decides that while training."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import TrainerCallback

from tutelage.components import bind
from tutelage.errors import ConfigError
from tutelage.files import atomic_write_json, read_json
from tutelage.schedules import TEXT_CONTROLLERS, progress_at
from tutelage.schedules.text_sources import Key
from tutelage.training.validation import cross_entropy, undisturbed
from tutelage.types import Plan

FILE = "text_source.json"
"""The state in a checkpoint."""

_DRAWS = 5
"""Tells these draws from others that a seed and a step give."""


class TextSource:
    """A controller that follows a plan: which steps learn from fresh, kept, or the data's text.

    What a step draws depends on the seed and its number alone, so that all processes agree and a
    resumed run goes on as an unbroken one.

    Args:
        spec: ``{kind: name in TEXT_CONTROLLERS, options}``.
        plan: its on-policy steps are those that may be on the student's own text.
        seed: of the draws.

    Attributes:
        state: of the controller.
        asked_after: steps (done) after which the validation loss is looked at.

    Raises:
        ConfigError: unknown controller or option; fewer texts are kept than a step needs.
    """

    def __init__(self, spec: Mapping[str, Any], plan: Plan, seed: int) -> None:
        options = {name: value for name, value in spec.items() if name != "kind"}
        self._rule = bind(TEXT_CONTROLLERS, "text controller", spec["kind"], options)()
        self._sizes = np.diff(plan.offsets)
        self._seed = seed
        if self._rule.capacity < self._sizes.max(initial=0):
            raise ConfigError(
                f"A replayed step needs {self._sizes.max()} texts, and {self._rule.capacity} are"
                " kept. Raise `capacity` of the text controller, or lower the batch size."
            )
        self.asked_after = _asked_after(self._rule.every, plan)
        self.begin()

    def begin(self) -> None:
        """The state before training."""
        self.state = self._rule.start()
        self._counts = {"fresh": 0, "replayed": 0, "data": 0}
        self._loss: float | None = None
        # By checkpoint (steps done) the first step whose text a run from there may ask for.
        self._first_asked: dict[int, int] = {}

    def take(self, step: int) -> list[Key] | None:
        """Decide a step (from 0), once.

        Returns:
            For each of its places the text that it learns from, its own where it is to be written;
            None for the data's.
        """
        rng = np.random.default_rng([self._seed, step, _DRAWS])
        total, size = len(self._sizes), int(self._sizes[step])
        progress = progress_at(step + 1, total, "end")
        source = self._rule.source(self.state, progress, float(rng.random()))
        self._counts[source] += 1
        if source == "data":
            return None
        if source == "replayed":
            kept = self.state.kept
            return [kept[n] for n in rng.choice(len(kept), size, replace=False).tolist()]
        keys = [(step, place) for place in range(size)]
        self.state = self._rule.keeping(self.state, keys)
        return keys

    def observe(self, loss: float) -> None:
        """Look at the validation loss, in nats per token."""
        self._loss = loss
        self.state = self._rule.observed(self.state, loss)

    def record(self) -> dict[str, float]:
        """What a log says: the steps on own text since the last record, and what decides."""
        counts = {name: self._counts[name] for name in ("fresh", "replayed")}
        self._counts = dict.fromkeys(self._counts, 0)
        found: dict[str, float] = {f"{name}_steps": count for name, count in counts.items()}
        found["own_text_chance"] = self.state.chance
        return found if self._loss is None else {**found, "validation_loss": self._loss}

    def first_asked(self, oldest: int) -> int:
        """The first step whose text may still be asked for; the oldest checkpoint decides.

        Args:
            oldest: the steps done in it.
        """
        return self._first_asked.get(oldest, 0)

    def save(self, folder: str | Path, done: int, *, write: bool) -> None:
        """Write the state into a checkpoint.

        Args:
            folder: the checkpoint.
            done: the steps done.
            write: whether this process writes; the others remember alone.
        """
        self._remember(done)
        if write:
            state = {"state": self.state.as_dict(), "counts": self._counts, "loss": self._loss}
            atomic_write_json(Path(folder) / FILE, state)

    def load(self, folder: str | Path, done: int) -> None:
        """Take the state from a checkpoint."""
        found = read_json(Path(folder) / FILE)
        self.state = type(self.state).of(found["state"])
        self._counts, self._loss = found["counts"], found["loss"]
        self._remember(done)

    def _remember(self, done: int) -> None:
        """The oldest text goes first, so nothing before the first one is ever asked for again."""
        self._first_asked[done] = self.state.kept[0][0] if self.state.kept else done


def _asked_after(every: int | str, plan: Plan) -> frozenset[int]:
    """Steps after which the validation loss is looked at: never after the last one."""
    if isinstance(every, int):
        steps = range(every, plan.total_steps, every)
    else:
        steps = np.cumsum(np.bincount(plan.step_stage)).tolist()
    return frozenset(step for step in steps if 0 < step < plan.total_steps)


class WatchValidation(TrainerCallback):
    """Show the controller of the text the validation loss, before training and as it asks for."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **keywords: Any,
    ) -> None:
        """The loss that the first one is compared with."""
        source = text_source_of(self._trainer)
        if source is not None and state.global_step == 0:
            source.begin()
            source.observe(self._loss())

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **keywords: Any,
    ) -> None:
        """Before a checkpoint is made."""
        source = text_source_of(self._trainer)
        if source is not None and state.global_step in source.asked_after:
            source.observe(self._loss())

    def _loss(self) -> float:
        """Token-mean cross-entropy on the evaluation rows, the same on all processes."""
        trainer = self._trainer
        look = functools.partial(
            cross_entropy,
            rows=trainer.eval_dataset,
            vocab_size=trainer.step_loss.distill.vocab_size,
            pad_token_id=trainer.on_policy.pad_token_id,
        )
        with trainer.whole():
            mine = undisturbed(trainer.student, look)["loss"]
        # Their last bits may differ, and what follows from them must not: the first one's counts.
        first = mine if trainer.args.process_index == 0 else 0.0
        value = torch.tensor(first, dtype=torch.float64, device=trainer.args.device)
        return float(trainer.over_processes(value))


def text_source_of(trainer: Any) -> TextSource | None:
    """What decides a trainer's text, where that is decided while training."""
    return None if trainer.on_policy is None else trainer.on_policy.source


def text_record(trainer: Any) -> dict[str, float]:
    """What a log says of whose text was learned; empty where the plan alone decides."""
    source = text_source_of(trainer)
    return {} if source is None else source.record()
