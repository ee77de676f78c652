"""Arguments of the trainer: those of transformers, and what a distillation adds."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from transformers import TrainingArguments

from tutelage.curriculum.options import PlanSettings
from tutelage.settings import field_of
from tutelage.training.arguments import refuse_unknown_to_distillation, use_one_gpu
from tutelage.training.settings import DistillSettings


def _told_by(group: type, name: str, more: str = "") -> Any:
    """An argument with the default and the meaning of a field of a group of settings."""
    one = field_of(group, name)
    return field(
        default=one.default, metadata={"help": f"{one.metadata['description']} {more}".strip()}
    )


@dataclass
class DistillConfig(TrainingArguments):
    """``TrainingArguments`` with the loss of a distillation.

    The schedule of a run (which examples, which share, temperature, weight and learning rate at
    which step) is not here but in the plan. The scheduled values below are used when the
    trainer is given no plan: then it makes a plain shuffled one from ``num_train_epochs`` or
    ``max_steps``.
    """

    divergence: str = _told_by(DistillSettings, "divergence", "A name; see `tutelage ls`.")
    divergence_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Options of the divergence by name."}
    )
    second_divergence: str | None = _told_by(
        DistillSettings, "second_divergence", "A name; see `tutelage ls`."
    )
    second_divergence_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Options of the second divergence by name."}
    )
    target: str = _told_by(DistillSettings, "target", "A name; see `tutelage ls`.")
    target_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Options of the target by name."}
    )
    ce_weight: float = _told_by(PlanSettings, "ce_weight", "Without a plan.")
    distill_temperature: float = _told_by(PlanSettings, "distill_temperature", "Without a plan.")
    student_share: float = _told_by(PlanSettings, "student_share", "Without a plan.")
    second_share: float = _told_by(PlanSettings, "second_share", "Without a plan.")
    tokens: str | None = _told_by(DistillSettings, "tokens", "A name; see `tutelage ls`.")
    token_options: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Options of the choice of tokens by name."}
    )
    token_share: float = _told_by(PlanSettings, "token_share", "Without a plan.")
    ce_trust: Literal["all", "agreed", "probability"] = _told_by(DistillSettings, "ce_trust")
    state_weight: float = _told_by(DistillSettings, "state_weight")
    state_floor: float = _told_by(DistillSettings, "state_floor")
    tau2_scaling: bool = _told_by(DistillSettings, "tau2_scaling")
    sampled: bool = _told_by(DistillSettings, "sampled")
    top_k: int | None = _told_by(DistillSettings, "top_k")
    share_controller: dict[str, Any] | None = field(
        default=None,
        metadata={"help": "{kind: ..., options}: moves the student's share while training."},
    )
    average: dict[str, Any] | None = field(
        default=None,
        metadata={"help": "{kind: ..., options}: keep an average of the weights as the student."},
    )
    tile_tokens: int | None = _told_by(DistillSettings, "tile_tokens")
    padding_free: bool | None = _told_by(DistillSettings, "padding_free")
    micro_batch_tokens: int | None = _told_by(DistillSettings, "micro_batch_tokens")
    keep_checkpoints: int = _told_by(DistillSettings, "keep_checkpoints")
    shard: Literal["none", "student", "teacher", "both"] = _told_by(DistillSettings, "shard")
    checkpoint_minutes: float | None = field(
        default=5.0,
        metadata={
            "help": "Where checkpoints are made, make one after so many minutes too; None: by steps"
            " alone."
        },
    )

    def __post_init__(self) -> None:
        refuse_unknown_to_distillation(self)
        DistillSettings(**{one.name: getattr(self, one.name) for one in fields(DistillSettings)})
        super().__post_init__()
        use_one_gpu(self)
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
