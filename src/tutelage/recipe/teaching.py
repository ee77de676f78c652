"""The sections about who teaches whom, and with what; see ``sections`` for the others."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tutelage.addresses import checked_address, is_address
from tutelage.curriculum.options import LearningRate, PlanSettings
from tutelage.data.sources import Source
from tutelage.generation.settings import GenerationSettings
from tutelage.recipe.base import (
    Choice,
    NotEmpty,
    Positive,
    Precision,
    ScheduleSpec,
    Strict,
    Temperature,
    given,
    same_as,
    section_of,
)
from tutelage.recipe.names import check_component, check_schedule, check_style
from tutelage.recipe.sources import Sources, plain_sources
from tutelage.recipe.words import below
from tutelage.schedules import TEXT_CONTROLLERS, Course
from tutelage.training.alarms import Alarms


class FineTune(Strict):
    """Ordinary fine-tuning of the teacher on the training data, before anything else."""

    epochs: float = Field(default=3.0, gt=0, le=1e5, description="Passes over the training data.")
    learning_rate: float = Field(default=2e-5, gt=0, description="Peak learning rate.")
    lr_schedule: Course = same_as(LearningRate, "schedule")
    warmup_ratio: float = same_as(LearningRate, "warmup_ratio", default=0.05)
    batch_size: Positive = Field(default=16, description="Examples of an optimizer step.")
    micro_batch_size: Positive = Field(
        default=4, description="Examples in memory at once, per process."
    )
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's weight decay.")
    max_grad_norm: float = Field(default=1.0, ge=0, description="Gradient clipping; 0 for none.")
    precision: Precision = Field(default="float32", description="Type of the matrix products.")
    checkpoint_every: Positive = Field(default=50, description="Steps between checkpoints.")


class Heal(FineTune):
    """Training of the student before anything else, once for all arms: heals one that was cut."""

    epochs: float = Field(default=1.0, gt=0, le=1e5, description="Passes over the data.")
    learning_rate: float = Field(default=1e-4, gt=0, description="Peak learning rate.")
    data: Sources | None = Field(
        default=None,
        description="A file or a list like data.train; the training data when left out.",
    )
    objective: Literal["sft", "kl"] = Field(
        default="sft", description="sft: the answers. kl: the teacher's distributions on them."
    )

    @property
    def sources(self) -> tuple[Source, ...]:
        """Its own data; none where it trains on those of the recipe."""
        return plain_sources(self.data)


class Student(Strict):
    """The model that learns: one that exists, or one cut from another."""

    model: NotEmpty | None = Field(
        default=None, description="Folder, hub name, .gguf file or embedded:NAME."
    )
    init_from: NotEmpty | None = Field(
        default=None,
        description="Cut the student from this model; TEACHER means the recipe's teacher.",
    )
    layers: Positive | None = Field(
        default=None, description="Keep this many evenly spaced layers; with init_from."
    )
    revision: NotEmpty | None = Field(default=None, description="Branch, tag or commit on the hub.")
    trust_remote_code: bool = Field(
        default=False, description="Run code that comes with the model."
    )
    dtype: Precision = Field(default="float32", description="Type of the weights.")
    finetune: Heal | None = Field(
        default=None, description="Train it first, before difficulty is measured."
    )

    @model_validator(mode="after")
    def _one_source(self) -> "Student":
        if (self.model is None) == (self.init_from is None):
            raise ValueError("give exactly one of `model` and `init_from`")
        if self.layers is not None and self.init_from is None:
            raise ValueError("`layers` goes with `init_from`, the model to take them from")
        return self

    @property
    def source(self) -> str:
        """What it is, or is cut from; TEACHER stands for the recipe's teacher."""
        return given(self.init_from or self.model, "student.model")

    @property
    def is_made(self) -> bool:
        """Whether it is cut or healed, and not taken as it is."""
        return self.init_from is not None or self.finetune is not None


class Teacher(Strict):
    """The model that teaches."""

    model: NotEmpty | None = Field(
        default=None, description="Folder, hub name, .gguf file or embedded:NAME."
    )
    revision: NotEmpty | None = Field(default=None, description="Branch, tag or commit on the hub.")
    trust_remote_code: bool = Field(
        default=False, description="Run code that comes with the model."
    )
    dtype: Precision = Field(default="float32", description="Type of the weights.")
    layers: Positive | None = Field(
        default=None, description="Keep this many evenly spaced layers, before any fine-tuning."
    )
    finetune: FineTune | None = Field(
        default=None, description="Fine-tune it on the training data first."
    )
    signal: Literal["auto", "live", "hidden", "topk"] = Field(
        default="auto",
        description=(
            "live: run it beside the student. hidden: store its last hidden states once, exactly."
            " topk: store its likeliest tokens and the rest as one. auto: hidden where that pays."
        ),
    )
    top_k: Positive = Field(default=64, description="topk: how many tokens to keep.")
    store: NotEmpty | Annotated[list[NotEmpty], Field(min_length=1)] | None = Field(
        default=None,
        description=(
            "Folder of the stored signal, or its address (s3://bucket/folder); by default a folder"
            " below output/cache. Of a list all are read as one store, and what none has is written"
            " to the first."
        ),
    )

    @field_validator("store")
    @classmethod
    def _no_password(cls, given: Any) -> Any:
        """Addresses without what must not be shown, which is refused before anything shows it."""
        if isinstance(given, list):
            return [cls._no_password(one) for one in given]
        return checked_address(given) if given and is_address(given) else given

    @property
    def store_folders(self) -> list[str]:
        """The folders and addresses that it names, none or some."""
        return [self.store] if isinstance(self.store, str) else self.store or []

    @property
    def source(self) -> str:
        """The model that it is, or is cut from."""
        return given(self.model, "teacher.model")

    @property
    def is_made(self) -> bool:
        """Whether it is cut or fine-tuned, and not taken as it is."""
        return self.layers is not None or self.finetune is not None


class NamedTeacher(Teacher):
    """One teacher of a ladder."""

    name: str = Field(description="What plans and reports call it.")


class Supervision(Strict):
    """What a teacher gives: its distributions, or answers that it writes."""

    kind: Literal["logits", "text"] = Field(
        default="logits",
        description="logits: distributions on the data's answers. text: answers that it writes.",
    )
    prompt: str = Field(
        default="plain",
        description="text: plain, step_by_step, or a template with {prompt} and the data's fields.",
    )
    answer_format: str = Field(
        default="The answer is {answer}", description="text: how a step_by_step answer must end."
    )
    max_new_tokens: int = same_as(GenerationSettings, "max_new_tokens", "text: longest answer.")
    sampling_temperature: Temperature = same_as(
        GenerationSettings, "sampling_temperature", "text: 0 is greedy."
    )
    verifier: Choice | None = Field(
        default=None, description="text: which metric says whether an answer is right."
    )
    on_wrong: Literal["keep", "drop", "resample"] = Field(
        default="keep", description="text: what happens to wrong answers; needs a verifier."
    )
    max_samples: int = Field(
        default=4,
        ge=1,
        le=10_000,
        description="text: with resample, answers to try for each prompt.",
    )
    resample_temperature: Temperature = Field(
        default=0.7, gt=0, description="text: with resample, for all answers but the first."
    )
    drop_truncated: bool = Field(
        default=False,
        description="text: with keep, drop answers that max_new_tokens cut; the others always do.",
    )
    equal_pairs: bool = Field(
        default=True, description="text: draw as many pairs for each arm as the poorest arm has."
    )
    stop_strings: list[NotEmpty] = same_as(
        GenerationSettings,
        "stop_strings",
        "text: an answer ends before any of these.",
        default=[],
    )
    batch_tokens: int = same_as(GenerationSettings, "batch_tokens", "text: tokens of a batch.")
    precision: Precision = same_as(
        GenerationSettings, "precision", "text: type of matrix products."
    )

    @model_validator(mode="after")
    def _judged(self) -> "Supervision":
        with below("answer_format" if self.prompt == "step_by_step" else "prompt"):
            check_style(self.prompt, self.answer_format)
        if self.on_wrong != "keep" and self.verifier is None:
            raise ValueError(
                f"`on_wrong: {self.on_wrong}` needs a `verifier` that tells right from wrong, such"
                " as {kind: exact_match}"
            )
        if self.verifier is not None:
            with below("verifier"):
                check_component("metric", self.verifier.kind, self.verifier.options)
        return self

    @property
    def samples(self) -> bool:
        """Whether any answer is drawn, and not the likeliest."""
        return self.sampling_temperature > 0 or self.on_wrong == "resample"


class OwnAlarms(section_of(Alarms, Strict)):
    """When a warning says that the student's own answers go wrong; each may be null."""


class OnPolicy(Strict):
    """Steps on which the student learns from answers that it writes itself."""

    fraction: ScheduleSpec = same_as(PlanSettings, "on_policy", "Share of such steps.")
    max_new_tokens: int = same_as(GenerationSettings, "max_new_tokens")
    sampling_temperature: Temperature = same_as(
        GenerationSettings, "sampling_temperature", default=1.0
    )
    top_p: float = same_as(GenerationSettings, "top_p")
    top_k: int = same_as(GenerationSettings, "top_k")
    teacher_top_k: Positive | None = Field(
        default=None,
        description="A token that is not among so many of the teacher's likeliest gives way to one"
        " that the teacher draws.",
    )
    horizon: ScheduleSpec | None = Field(
        default=None, description="Most new tokens where that moves; never above max_new_tokens."
    )
    prefix: ScheduleSpec = Field(
        default=0.0, description="Share of the data's answer that is given with the prompt."
    )
    reuse: int = Field(
        default=1, ge=1, le=1_000_000, description="Updates that an answer is learned from."
    )
    max_age: Positive | None = Field(
        default=None, description="With reuse: steps after which an answer is too old."
    )
    store_gb: float = Field(
        default=20.0, gt=0, description="With reuse: disk for answers and what the teacher says."
    )
    importance: float | None = Field(
        default=None,
        ge=1,
        allow_inf_nan=False,
        description="With reuse: tokens of an answer count as often as the student would come to"
        " them now, for once before; at most so often.",
    )
    adaptive: Choice | None = Field(
        default=None,
        description="Decides while training which of these steps are on own answers, new or kept;"
        " see `tutelage ls text_controllers`.",
    )
    alarms: OwnAlarms = Field(
        default_factory=OwnAlarms, description="When answers are said to go wrong."
    )

    @model_validator(mode="after")
    def _known(self) -> "OnPolicy":
        for name in ("fraction", "horizon", "prefix"):
            spec = getattr(self, name)
            if spec is not None:
                with below(name):
                    check_schedule(spec)
        if self.adaptive is not None:
            with below("adaptive"):
                check_component("text controller", self.adaptive.kind, self.adaptive.options)
            if self.reuse > 1:
                raise ValueError(
                    "give either `reuse` or `adaptive`: both say what is learned again"
                )
        return self

    @property
    def rule(self) -> Choice | None:
        """What decides while training whose text a step learns from; None: the plan does."""
        return self.adaptive if self.is_used else None

    @property
    def most_replayed(self) -> int | None:
        """How many answers are kept to be replayed; None where that is not decided by a rule."""
        one = self.rule
        return None if one is None else TEXT_CONTROLLERS[one.kind].function(**one.options).capacity

    @property
    def as_before(self) -> dict[str, Any]:
        """Its values, without those that say nothing new: answers are known again by them."""
        came_later = ("horizon", "prefix", "reuse", "adaptive", "teacher_top_k", "importance")
        quiet = {name: type(self).model_fields[name].default for name in came_later}
        values = self.model_dump(mode="json")
        if self.reuse == 1:
            values = {k: v for k, v in values.items() if k not in ("max_age", "store_gb")}
        return {k: v for k, v in values.items() if k not in quiet or v != quiet[k]}

    @property
    def is_used(self) -> bool:
        """Whether any step may be on-policy."""
        return self.fraction != 0.0
