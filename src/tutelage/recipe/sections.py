"""The sections of a recipe, as pydantic models: what may be written, its default, its meaning.

Importing this is cheap: names of components are checked against their tables only when a recipe is
validated, because the tables import torch.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tutelage.curriculum.options import LOSS_VALUES, CurriculumOptions, LearningRate, PlanSettings
from tutelage.data.sources import Source
from tutelage.recipe.base import (
    Choice,
    Count,
    NotEmpty,
    Positive,
    Precision,
    ScheduleSpec,
    Seed,
    Share,
    Strict,
    same_as,
    section_of,
)
from tutelage.recipe.evaluation import SuiteChoice
from tutelage.recipe.names import (
    check_component,
    check_curriculum,
    check_levels,
    check_lists,
    check_schedule,
    check_template,
)
from tutelage.recipe.sources import ExampleColumn, Sources, plain_sources
from tutelage.recipe.words import SettingError, below
from tutelage.schedules import Course
from tutelage.training.settings import DistillSettings


class Lengths(Strict):
    """Limits that drop training examples, said aloud; nothing that is tested on is dropped."""

    max_length: Positive = Field(
        default=512, description="Most tokens of prompt and answer together."
    )
    max_prompt_length: Positive = Field(default=256, description="Most tokens of the prompt.")
    long_prompts: Literal["cut", "keep"] = Field(
        default="cut",
        description="Longer prompts of validation and test: take their last tokens, or all.",
    )


class FileData(Lengths):
    """Data of the user: files, saved data sets or hub names."""

    kind: Literal["files"] = "files"
    train: Sources | None = Field(
        default=None,
        description=".jsonl, .json, .csv, .tsv, .parquet, .arrow, folder or hub name; or a list of"
        " these, of which each may be a mapping with settings of its own.",
    )
    validation: Sources | None = Field(
        default=None, description="The same; for selecting a checkpoint."
    )
    test: Sources | None = Field(default=None, description="The same; for the final evaluation.")
    columns: dict[ExampleColumn, str] = Field(
        default={},
        description="Where the files call a column otherwise, as in {prompt: text, completion:"
        " code}.",
    )
    limit_train: Positive | None = Field(default=None, description="Use a seeded draw of so many.")
    limit_validation: Positive | None = Field(
        default=None, description="Use a seeded draw of so many."
    )
    limit_test: Positive | None = Field(default=None, description="Use a seeded draw of so many.")
    validation_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Without `validation`: hold this share of `train` out for it.",
    )
    test_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Without `test`: hold this share of `train` out for it.",
    )
    template: str = Field(
        default="auto", description="auto, plain, alpaca, chat, or text with {field} placeholders."
    )
    system: str | None = Field(default=None, description="System text for every example.")

    def sources(self, split: str) -> tuple[Source, ...]:
        """The sources of a split; none where there is no such split, or it is held out."""
        return plain_sources(getattr(self, split))

    def named(self, split: str) -> str:
        """The sources of a split as a text for people."""
        return ", ".join(one.title for one in self.sources(split))

    @model_validator(mode="after")
    def _template_is_one(self) -> "FileData":
        with below("template"):
            check_template(self.template)
        return self


class ArithmeticData(Lengths):
    """The embedded task: chained sums, step by step, each number with its last digit first."""

    kind: Literal["arithmetic"]
    train: int = Field(default=1500, ge=1, le=1_000_000, description="Training examples.")
    validation: Count = Field(default=200, description="Validation examples; 0 for none.")
    test: Count = Field(default=500, description="Test examples; 0 for none.")
    label_noise: Share = Field(
        default=0.4, description="Share of training rationales with a wrong step."
    )
    data_seed: Seed = Field(default=0, description="Chooses prompts, order and errors.")
    levels: list[int] = Field(default=[1, 2, 3, 4, 5], description="Numbers of steps.")

    @model_validator(mode="after")
    def _levels_exist(self) -> "ArithmeticData":
        with below("levels"):
            check_levels(self.levels)
        return self


class ListsData(Lengths):
    """The second embedded task: lists of digits, changed step by step."""

    kind: Literal["lists"]
    train: int = Field(default=1500, ge=1, le=1_000_000, description="Training examples.")
    validation: Count = Field(default=200, description="Validation examples; 0 for none.")
    test: Count = Field(default=500, description="Test examples; 0 for none.")
    label_noise: Share = Field(
        default=0.4, description="Share of training rationales with a wrong step."
    )
    data_seed: Seed = Field(
        default=0, description="Chooses prompts, order, errors and what is left to choose."
    )
    levels: list[int] = Field(default=[1, 2, 3, 4], description="Numbers of steps.")
    lengths: list[int] = Field(default=[3, 4, 5, 6], description="Lengths of the lists.")

    @model_validator(mode="after")
    def _there_are_such(self) -> "ListsData":
        for name, values in (("levels", self.levels), ("lengths", self.lengths)):
            with below(name):
                check_lists(name, values)
        return self


class DifficultySection(Choice):
    """How hard an example is for the untrained student."""

    kind: str = Field(
        default="student_loss", description="Name of a difficulty; see `tutelage ls`."
    )
    batch_tokens: Positive = Field(default=8192, description="Tokens of a batch when measuring.")
    refresh: Positive | None = Field(
        default=None,
        description="Measure again with the current student after every so many stages.",
    )
    sample: Positive | None = Field(
        default=None, description="Measure so many examples and estimate the others."
    )

    @model_validator(mode="after")
    def _known(self) -> "DifficultySection":
        check_component("difficulty", self.kind, self.options)
        return self


class CurriculumSection(section_of(CurriculumOptions, Choice, without={"options", "weights"})):
    """Which examples come when; fields as in ``tutelage.curriculum.CurriculumOptions``.

    Further keys are options of the curriculum, such as ``shares`` of ``bands``.
    """

    weights: Choice | None = same_as(CurriculumOptions, "weights")

    @property
    def plain(self) -> CurriculumOptions:
        """The section as the compiler of plans takes it."""
        weights = None if self.weights is None else self.weights.model_dump()
        return self.values_of(CurriculumOptions, options=self.options, weights=weights)

    @model_validator(mode="after")
    def _fits(self) -> "CurriculumSection":
        check_component("curriculum", self.kind, self.options, known=type(self).model_fields)
        if self.weights is not None:
            with below("weights"):
                check_component("example weight", self.weights.kind, self.weights.options)
        check_curriculum(self.plain)
        return self


class Loss(Strict):
    """The loss: ce_weight * CE + (1 - ce_weight) * tau^2 * divergence(target || student)."""

    divergence: Choice = Field(
        default=Choice(kind=DistillSettings.divergence),
        description="How far the student is from its target.",
    )
    target: Choice = Field(
        default=Choice(kind=DistillSettings.target),
        description="What the student is pulled towards.",
    )
    second_divergence: Choice | None = same_as(DistillSettings, "second_divergence")
    second_share: ScheduleSpec = same_as(PlanSettings, "second_share")
    ce_weight: ScheduleSpec = same_as(PlanSettings, "ce_weight")
    tokens: Choice | None = same_as(DistillSettings, "tokens")
    token_share: ScheduleSpec = same_as(PlanSettings, "token_share")
    ce_trust: Literal["all", "agreed", "probability"] = same_as(DistillSettings, "ce_trust")
    state_weight: float = same_as(DistillSettings, "state_weight")
    state_floor: float = same_as(DistillSettings, "state_floor")
    distill_temperature: ScheduleSpec = same_as(PlanSettings, "distill_temperature")
    student_share: ScheduleSpec = same_as(PlanSettings, "student_share")
    tau2_scaling: bool = same_as(DistillSettings, "tau2_scaling")
    adaptive: Choice | None = Field(
        default=None,
        description="Moves the student's share beyond its schedule while training; see `tutelage"
        " ls controllers`.",
    )
    sampled: bool = same_as(DistillSettings, "sampled")
    top_k: int | None = same_as(DistillSettings, "top_k")

    @model_validator(mode="after")
    def _known(self) -> "Loss":
        if self.sampled and (self.divergence.kind != "reverse_kl" or self.top_k is not None):
            raise ValueError(
                "`sampled` is an estimate of reverse KL over all tokens: it goes with"
                " divergence: {kind: reverse_kl} and without top_k"
            )
        if self.sampled and self.second_divergence is not None:
            raise ValueError("`sampled` estimates reverse KL alone: leave second_divergence out")
        for name in ("divergence", "second_divergence", "target"):
            component: Choice | None = getattr(self, name)
            # The tables of these import torch, which takes a second; the defaults are known.
            if component is not None and component != type(self).model_fields[name].default:
                with below(name):
                    family = name.removeprefix("second_")
                    check_component(family, component.kind, component.options)
        if self.tokens is not None:
            with below("tokens"):
                check_component("token choice", self.tokens.kind, self.tokens.options)
        if self.adaptive is not None:
            with below("adaptive"):
                check_component("controller", self.adaptive.kind, self.adaptive.options)
        for name in LOSS_VALUES:
            with below(name):
                check_schedule(getattr(self, name))
        return self

    @property
    def is_cross_entropy_alone(self) -> bool:
        """Whether no step can have a teacher's signal."""
        return self.ce_weight in (1.0, {"kind": "constant", "value": 1})


class Lora(Strict):
    """Train low-rank adapters instead of all weights."""

    rank: int = Field(default=16, ge=1, le=65_536, description="Rank of the adapters.")
    alpha: Positive = Field(default=64, description="Scale of the adapters.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Dropout before the adapters.")
    target_modules: NotEmpty | Annotated[list[NotEmpty], Field(min_length=1)] = Field(
        default="all-linear", description="Which layers get one."
    )
    merge: bool = Field(default=True, description="Merge the adapters into the saved student.")


class Training(Strict):
    """The optimizer and what is around it."""

    learning_rate: float = Field(default=1e-4, gt=0, description="Peak learning rate.")
    lr_schedule: Course = same_as(LearningRate, "schedule")
    warmup_ratio: float = same_as(LearningRate, "warmup_ratio")
    min_lr_ratio: float = same_as(LearningRate, "min_ratio")
    batch_size: Positive = Field(default=64, description="Examples of a step, over all processes.")
    micro_batch_size: Positive = Field(
        default=8, description="Examples in memory at once, per process."
    )
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's weight decay.")
    max_grad_norm: float = Field(default=1.0, ge=0, description="Gradient clipping; 0 for none.")
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's first beta.")
    adam_beta2: float = Field(default=0.999, ge=0, lt=1, description="AdamW's second beta.")
    precision: Precision = Field(default="float32", description="Type of the matrix products.")
    gradient_checkpointing: bool = Field(default=False, description="Less memory for more time.")
    lora: Lora | None = Field(default=None, description="Train adapters instead of all weights.")
    average: Choice | None = Field(
        default=None,
        description="Keep an average of the weights as the student; see `tutelage ls averages`.",
    )
    max_steps: Positive | None = Field(
        default=None, description="Stop after so many steps of the plan."
    )
    log_every: Positive = Field(default=10, description="Steps between records.")
    checkpoint_every: Positive = Field(
        default=100, description="Steps between checkpoints; every five minutes comes one too."
    )
    keep_checkpoints: int = same_as(DistillSettings, "keep_checkpoints")
    report_to: list[Literal["tensorboard", "trackio", "wandb"]] = Field(
        default=[], description="Trackers, beside the run folder's own records."
    )
    tile_tokens: int | None = same_as(DistillSettings, "tile_tokens")
    padding_free: bool | None = same_as(DistillSettings, "padding_free")
    micro_batch_tokens: int | None = same_as(DistillSettings, "micro_batch_tokens")
    shard: Literal["none", "student", "teacher", "both"] = same_as(DistillSettings, "shard")
    num_threads: Positive | None = Field(
        default=None, le=1024, description="CPU threads; None: torch decides."
    )

    @model_validator(mode="after")
    def _known(self) -> "Training":
        if self.average is not None:
            with below("average"):
                check_component("average", self.average.kind, self.average.options)
        return self

    def accumulation(self, num_processes: int = 1) -> int:
        """Micro-batches of a step on each process."""
        return -(-self.batch_size // (self.micro_batch_size * num_processes))


CONTINUOUS = ("log_likelihood", "neg_forward_kl")
"""What can be said of a student on the validation data without an answer being written: the mean
log-probability of the answers' tokens, and the negative divergence from the strongest teacher, in
nats per token. More is better, as of every metric."""


class Selection(Strict):
    """Which checkpoint becomes the student."""

    metric: str | None = Field(
        default=None,
        description="Metric on the validation data, or of `suite`; or log_likelihood of the data's"
        " answers, or neg_forward_kl to the teacher at them; None: the last.",
    )
    every: Literal["stage"] | Positive = Field(
        default="stage", description="When to validate, in steps."
    )
    keep: Literal["best", "last"] = Field(
        default="best", description="Which one becomes the student."
    )
    suite: SuiteChoice | None = Field(
        default=None,
        description="A suite with a file of its own that is asked instead of the validation data.",
    )
    limit: Positive | None = Field(default=200, description="Validate on so many examples.")

    @model_validator(mode="after")
    def _known(self) -> "Selection":
        if self.suite is not None:
            if self.is_continuous:
                raise SettingError(
                    "suite",
                    f"{self.metric} is of the validation data alone. Choose a metric of the suite,"
                    " or leave the suite out.",
                )
            with below("suite"):
                self.suite.check()
        return self

    @property
    def is_continuous(self) -> bool:
        """Whether the metric is one of ``CONTINUOUS``, for which nothing is written."""
        return self.metric in CONTINUOUS
