"""What a trainer does otherwise when its student is cut over the processes."""

import contextlib
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import Trainer

from tutelage.models.shards import ShardedStudent
from tutelage.training.budget import fillers
from tutelage.training.settings import parts_of


class Hosts(Protocol):
    """Hosts that see no common folder; all processes call these together."""

    def collect(self, *folders: str | Path) -> None:
        """Let the first process have what others wrote into folders."""
        ...

    def share(self, folder: str | Path) -> None:
        """Let every host have what any of them has in a folder."""
        ...


class ShardableTrainer(Trainer):
    """``transformers.Trainer`` whose model may be cut, see ``ShardedStudent``.

    Checkpoints are those of a model that is not cut, so they go on with any number of processes,
    cut or not.

    Attributes:
        shards: how the model is cut; None: every process has all of it.
        hosts: for processes that see other files in the output folder; None: there are none.
    """

    shards: ShardedStudent | None = None
    hosts: Hosts | None = None

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator, which divides nothing: the loss is of the whole step already.

        With some versions of transformers (5.4 is one) it would divide the gradients by the number
        of micro-batches once more. AdamW hides that, but for its epsilon; the clipping does not.
        """
        super().create_accelerator_and_postprocess()
        self.accelerator.gradient_accumulation_steps = 1

    def cut(self) -> None:
        """Cut the model over the processes, where that was asked and there are several."""
        args: Any = self.args
        if parts_of(args.shard, "student", args.world_size) > 1:
            self.shards = ShardedStudent(self.model, self.args.device)  # type: ignore[arg-type]

    def over_processes(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        total = self.accelerator.reduce(tensor, "sum")
        assert isinstance(total, Tensor)
        return total

    def whole(self) -> contextlib.AbstractContextManager[None]:
        """Inside, every process has all of the model; all of them must enter."""
        return contextlib.nullcontext() if self.shards is None else self.shards.whole()

    def in_one_piece(self) -> Any:
        """The model as if it had never been cut, when training is done; all processes must ask.

        Returns:
            Where the model is cut: a new one, on the CPU, on the first process; None on others.
        """
        return self.model if self.shards is None else self.shards.in_one_piece()

    def evened(self, parts: list[dict[str, Any]], pad_token_id: int) -> list[dict[str, Any]]:
        """The parts of a micro-batch, as many on all processes: each part gathers the layers.

        Args:
            parts: of this process.
            pad_token_id: what the fillers consist of, which weigh nothing.
        """
        args: Any = self.args
        # Without a budget every process has one part, and nobody need be asked.
        if args.world_size == 1 or args.shard == "none" or args.micro_batch_tokens is None:
            return parts
        return fillers(parts[0], self.most(len(parts)) - len(parts), pad_token_id) + parts

    def most(self, count: int) -> int:
        """The most of a number over all processes."""
        found = torch.tensor(count, device=self.args.device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return int(found)

    def create_optimizer(self, *arguments: Any, **keywords: Any) -> torch.optim.Optimizer:
        """An optimizer whose saved state is that of the whole model."""
        made = self.optimizer is None
        optimizer = super().create_optimizer(*arguments, **keywords)
        if made and self.shards is not None:
            self.shards.keep_whole(optimizer)
        return optimizer

    def _wrap_model(self, model: nn.Module, *arguments: Any, **keywords: Any) -> nn.Module:
        """Autocast alone: a model that is cut reduces its gradients itself."""
        if self.shards is None:
            return super()._wrap_model(model, *arguments, **keywords)
        if not getattr(model, "_is_accelerate_prepared", False):
            self.accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
            model._is_accelerate_prepared = True  # type: ignore[assignment]
        return model

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the whole model, as ``transformers.Trainer.save_model``; all processes call it."""
        if self.shards is None:
            return super().save_model(output_dir, _internal_call)
        with self.whole():
            if self.args.should_save:
                self._save(output_dir or str(self.args.output_dir), self.shards.state())

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """The first process writes; where the model is cut the others give their parts."""
        if self.shards is not None and not self.args.should_save:
            self.optimizer.state_dict()  # type: ignore[union-attr]
            return
        super()._save_optimizer_and_scheduler(output_dir)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        if self.shards is None:
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.shards.load(Path(resume_from_checkpoint))
