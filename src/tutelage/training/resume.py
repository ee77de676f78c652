"""Checkpoints of a trainer: going on from one, and making one that is whole, in time."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import TrainerCallback

from tutelage.errors import RunFolderError
from tutelage.files import atomic_write_json, read_json, remove_directory
from tutelage.models.saving import disk_checked
from tutelage.training.checkpoints import (
    checkpoint_step,
    checkpoints,
    damage,
    last_checkpoint,
    mark_complete,
    rotate,
)
from tutelage.training.text_source import text_source_of

CHECKPOINT_SHARE = 20
"""Checkpoints by time take at most one part in so many of the training's time."""


def checkpoint_asked(asked: str | Path | bool | None, folder: str) -> tuple[int, str | None]:
    """The step and the path of the checkpoint that is to be continued; 0 and None: from the start.

    Args:
        asked: its path; True: the newest whole one; False or None: none.
        folder: where the checkpoints are.

    Raises:
        RunFolderError: there is none, or it is not as it was written.
    """
    if asked is None or asked is False:
        return 0, None
    path = last_checkpoint(folder) if asked is True else Path(asked).absolute()
    if path is None:
        raise RunFolderError(
            f"There is no whole checkpoint in '{folder}' to go on from. Leave"
            " resume_from_checkpoint out to begin anew."
        )
    reason = damage(path) if path.is_dir() else "there is no such folder"
    if reason is not None:
        raise RunFolderError(
            f"The checkpoint '{path}' cannot be continued from: {reason}. Name another one, or say"
            " resume_from_checkpoint=True, which takes the newest whole one."
        )
    return checkpoint_step(path), str(path)


@contextlib.contextmanager
def saving_checkpoint(trainer: Any, logs: Sequence[str | Path]) -> Iterator[None]:
    """Around transformers' own saving, on all processes: the checkpoint is whole afterwards.

    It is marked as whole when all is written, and older ones go then: a kill at any moment loses
    nothing.

    Args:
        trainer: at the step that is saved.
        logs: files that the checkpoint vouches for.
    """
    args, wait = trainer.args, trainer.accelerator.wait_for_everyone
    folder = f"{args.output_dir}/checkpoint-{trainer.state.global_step}"
    if args.should_save:
        remove_directory(folder)  # of an earlier run: its marker must not vouch for new files
    wait()
    with disk_checked(folder):
        yield
        _save_beside(trainer, folder)
    wait()
    if trainer.hosts is not None:
        kept = [] if trainer.on_policy is None else [trainer.on_policy.folder]
        trainer.hosts.collect(folder, *kept)
    if args.should_save:
        _close(trainer, folder, logs)


def _save_beside(trainer: Any, folder: str | Path) -> None:
    """Write what transformers does not know of: controllers, averages, moments, open log records.

    Of that the sums since the last record, by each process its own: so a record covers the same
    steps in a resumed run, wherever its checkpoints are.
    """
    writes = trainer.args.should_save
    for one in (trainer.adaptive, trainer.states):
        if one is not None and writes:
            one.save(folder)
    if trainer.average is not None:
        trainer.average.save(folder, write=writes)
    if (source := text_source_of(trainer)) is not None:
        source.save(folder, trainer.state.global_step, write=writes)
    atomic_write_json(_window_file(trainer, folder), trainer.sums.state())


def _close(trainer: Any, folder: str | Path, logs: Sequence[str | Path]) -> None:
    """Mark a checkpoint as whole, then remove older ones."""
    mark_complete(folder, logs)
    args = trainer.args
    # With load_best_model_at_end, transformers goes back to the best one.
    best = trainer.state.best_model_checkpoint if args.load_best_model_at_end else None
    rotate(str(args.output_dir), args.keep_checkpoints, best)


def forget_rollouts(trainer: Any) -> None:
    """Remove rollouts that no checkpoint could ask for: all of them when the plan is done."""
    if trainer.on_policy is None:
        return
    if trainer.state.global_step >= trainer.plan.total_steps:
        trainer.accelerator.wait_for_everyone()
        if trainer.args.should_save:
            trainer.on_policy.clear()
        return
    kept = [checkpoint_step(path) for path in checkpoints(str(trainer.args.output_dir))]
    trainer.on_policy.forget(min(kept, default=0))


def load_beside(trainer: Any, folder: str | Path) -> None:
    """Take from a checkpoint what ``saving_checkpoint`` wrote.

    With another number of processes the sums begin anew, with the step that follows.
    """
    for one in (trainer.adaptive, trainer.average, trainer.states):
        if one is not None:
            one.load(folder)
    if (source := text_source_of(trainer)) is not None:
        source.load(folder, checkpoint_step(Path(folder)))
    path = _window_file(trainer, folder)
    if path.is_file():
        trainer.sums.load(read_json(path))
    else:
        trainer.sums.logged_step = checkpoint_step(Path(folder))


def _window_file(trainer: Any, folder: str | Path) -> Path:
    return Path(folder) / f"window_{trainer.args.process_index}_of_{trainer.args.world_size}.json"


class TimedCheckpoints(TrainerCallback):
    """Ask for a checkpoint where the last one is some minutes ago; the first process's clock rules.

    Args:
        trainer: whose checkpoints they are.
        minutes: between two of them; None for none.
    """

    def __init__(self, trainer: Any, minutes: float | None) -> None:
        self._trainer = trainer
        self._minutes = minutes
        self._last = self._asked = time.monotonic()
        self._took = 0.0

    def on_train_begin(self, *arguments: Any, **keywords: Any) -> None:
        """Count from here."""
        self._last = time.monotonic()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **keywords: Any,
    ) -> None:
        """Look at the clock."""
        self._asked = time.monotonic()
        if self._minutes is None or args.save_strategy == "no":
            return
        wait = max(self._minutes * 60, CHECKPOINT_SHARE * self._took)
        if self._first_says(self._asked - self._last > wait):
            control.should_save = True

    def _first_says(self, flag: bool) -> bool:
        """What the first process says, on all of them."""
        args = self._trainer.args
        if args.world_size == 1:
            return flag
        mine = torch.tensor(int(flag and args.process_index == 0), device=args.device)
        return bool(self._trainer.accelerator.reduce(mine, "sum"))

    def on_save(self, *arguments: Any, **keywords: Any) -> None:
        """Count from here."""
        self._last = time.monotonic()
        self._took = self._last - self._asked
