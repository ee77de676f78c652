"""Arguments of the trainer: those of transformers, and what a distillation adds."""

from dataclasses import dataclass, field
from typing import Any

from transformers import TrainingArguments

from tutelage.training.arguments import refuse_unknown_to_distillation


@dataclass
class DistillConfig(TrainingArguments):
    """``TrainingArguments`` with the loss of a distillation.

    The schedule of a run (which examples, which share, temperature, weight and learning rate at
    which step) is not here but in the plan. The three scheduled values below are used when the
    trainer is
    given no plan: then it makes a plain shuffled one from ``num_train_epochs`` or ``max_steps``.
    """

    divergence: str = field(
        default="forward_kl", metadata={"help": "Name of a divergence; see `tutelage ls`."}
    )
    divergence_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Options of the divergence by name."}
    )
    target: str = field(
        default="probability_mix", metadata={"help": "Name of a target; see `tutelage ls`."}
    )
    target_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Options of the target by name."}
    )
    ce_weight: float = field(
        default=0.0,
        metadata={"help": "Weight of cross-entropy; distillation has the rest. Without a plan."},
    )
    distill_temperature: float = field(
        default=1.0, metadata={"help": "Softens teacher and student. Without a plan."}
    )
    student_share: float = field(
        default=0.0, metadata={"help": "Share of the student in the target. Without a plan."}
    )
    tau2_scaling: bool = field(
        default=True,
        metadata={"help": "Multiply distillation by the temperature squared, whatever divergence."},
    )
    top_k: int | None = field(
        default=None,
        metadata={"help": "Compare the teacher's k likeliest tokens and one tail bucket alone."},
    )
    share_controller: dict[str, Any] | None = field(
        default=None,
        metadata={"help": "{kind: ..., options}: moves the student's share while training."},
    )
    tile_tokens: int | None = field(
        default=None,
        metadata={"help": "Response tokens whose logits are in memory at once; None: 512 MB."},
    )
    padding_free: bool | None = field(
        default=None,
        metadata={
            "help": "Run a batch as one row without padding, where the model can. None: on CPUs."
        },
    )
    micro_batch_tokens: int | None = field(
        default=None,
        metadata={"help": "Cut micro-batches further, into parts of so many tokens at most."},
    )
    keep_checkpoints: int = field(
        default=2, metadata={"help": "How many complete checkpoints to keep."}
    )
    checkpoint_minutes: float | None = field(
        default=5.0,
        metadata={
            "help": "Where checkpoints are made, make one after so many minutes too; None: by steps"
            " alone."
        },
    )

    def __post_init__(self) -> None:
        refuse_unknown_to_distillation(self)
        super().__post_init__()
        # Every step's loss is divided by the tokens of all processes: see DistillTrainer.
        self.average_tokens_across_devices = True
        # A NaN must stop the run and name its batch, not vanish from the log.
        self.logging_nan_inf_filter = False
        # Rotation happens here, after a new checkpoint is known to be whole.
        if self.save_total_limit is not None:
            self.keep_checkpoints = self.save_total_limit
        self.save_total_limit = None
        self.remove_unused_columns = False
        if self.ddp_find_unused_parameters is None:
            self.ddp_find_unused_parameters = False
