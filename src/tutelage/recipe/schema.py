"""A whole recipe, and the checks that need more than one section."""

import re
from typing import Annotated, Any

from pydantic import Field, model_validator

from tutelage.curriculum.options import LOSS_VALUES, range_fault
from tutelage.generation.settings import GenerationSettings
from tutelage.placeholders import shorten
from tutelage.recipe.base import Choice, NotEmpty, Seed, Strict, given
from tutelage.recipe.evaluation import EvaluationSection
from tutelage.recipe.loss_checks import check_states, check_stored_temperature, check_vouching
from tutelage.recipe.names import (
    check_component,
    needs_of,
    schedule_range,
    teacher_schedule,
)
from tutelage.recipe.sections import (
    CONTINUOUS,
    ArithmeticData,
    CurriculumSection,
    DifficultySection,
    FileData,
    ListsData,
    Loss,
    Selection,
    Training,
)
from tutelage.recipe.teaching import NamedTeacher, OnPolicy, Student, Supervision, Teacher
from tutelage.recipe.words import SettingError, below
from tutelage.training.settings import why_not_weighed

Data = Annotated[FileData | ArithmeticData | ListsData, Field(discriminator="kind")]

NAME_PATTERN = r"[^\W_]([\w .+-]*[\w.+-])?"
"""What may be the name of a run or an arm: it becomes part of a path."""

LONGEST_NAME = 80
"""In bytes: file systems allow 255, and more is added to it."""


class Seeds(Strict):
    """Seeds with one job each, so that changing one leaves the work of the others as it is."""

    data: Seed | None = Field(
        default=None,
        description="Which rows are held out and drawn (`test_share`, `limit_train`,"
        " `difficulty.sample`, `equal_pairs`); None: `seed`. The embedded tasks have `data_seed`.",
    )
    teacher: Seed | None = Field(
        default=None,
        description="The teachers' fine-tuning and the answers that they write; None: `seed`.",
    )
    student: Seed | None = Field(
        default=None,
        description="Plan, order, dropout, adapters, healing, and whatever the student samples"
        " while it learns or is measured; None: `seed`.",
    )


class Recipe(Strict):
    """A run: what is taught by whom to whom, on which data, how, and how it is judged."""

    name: str = Field(default="", description="Name of the run; the file's name when left out.")
    arm: str = Field(
        default="", description="Name of the main arm; the method's name when left out."
    )
    title: str = Field(default="", description="Heading of the report.")
    description: str = Field(default="", description="A sentence or two about the run.")
    paper: str = Field(default="", description="Where the method comes from.")
    differs_from_paper: str = Field(default="", description="What this recipe does otherwise.")
    seed: Seed = Field(default=0, description="Seed of whatever `seeds` says nothing of.")
    seeds: Seeds = Field(
        default_factory=Seeds, description="Seeds of the data, the teachers and the student alone."
    )
    student: Student | None = Field(default=None, description="The model that learns.")
    teacher: Teacher | None = Field(default=None, description="The model that teaches.")
    teachers: list[NamedTeacher] = Field(
        default=[], description="Instead of `teacher`: a ladder of teachers from weak to strong."
    )
    teacher_schedule: Choice = Field(
        default=Choice(kind="strongest"),
        description="Which teacher of the ladder speaks when.",
    )
    supervision: Supervision = Field(
        default_factory=Supervision, description="What a teacher gives: distributions or answers."
    )
    on_policy: OnPolicy = Field(
        default_factory=OnPolicy, description="Learning from the student's own answers."
    )
    engine: Choice = Field(
        default=Choice(kind="local"),
        description="What answers prompts, except while training; see `tutelage ls engines`.",
    )
    data: Data | None = Field(default=None, description="What is learned and tested.")
    difficulty: DifficultySection = Field(
        default_factory=DifficultySection, description="How hard an example is."
    )
    curriculum: CurriculumSection = Field(
        default_factory=CurriculumSection, description="Which examples come when."
    )
    loss: Loss = Field(default_factory=Loss, description="What is minimised.")
    training: Training = Field(default_factory=Training, description="How it is minimised.")
    selection: Selection = Field(
        default_factory=Selection, description="Which checkpoint is the student."
    )
    evaluation: EvaluationSection = Field(
        default_factory=EvaluationSection, description="What is measured."
    )
    controls: dict[str, dict[str, Any]] = Field(
        default={},
        description="Further arms: changes to this recipe, at the same number of updates.",
    )
    output: NotEmpty = Field(default="runs", description="Where run folders go.")

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        metric = self.selection.metric
        # A suite's own metrics are known when it is made.
        of_own = self.selection.suite is None and not self.selection.is_continuous
        if metric is not None and of_own and metric not in self.evaluation.metrics:
            known = ", ".join(self.evaluation.metrics)
            raise SettingError(
                "selection.metric",
                f"'{metric}' is not among evaluation.metrics: {known}. Choose one of them, or"
                f" {' or '.join(CONTINUOUS)}, or add it there.",
            )
        if self.student is not None and self.student.init_from == "TEACHER":
            missing = not self.ladder
            if missing and self.data is not None:
                raise SettingError(
                    "student.init_from",
                    "TEACHER stands for the recipe's teacher, and there is no teacher.model. Give"
                    " one, or name the model to cut from.",
                )
        heal = self.student.finetune if self.student is not None else None
        if heal is not None and heal.objective == "kl" and not self.ladder:
            raise SettingError(
                "student.finetune.objective",
                "kl needs a teacher, and there is no teacher.model. Give one, or use sft.",
            )
        with below("engine"):
            check_component("engine", self.engine.kind, self.engine.options)
        self._check_names()
        self._check_teachers()
        self._check_schedules()
        return self

    @property
    def student_section(self) -> Student:
        """What a run knows of its student: every recipe of a run has the section."""
        return given(self.student, "student")

    @property
    def data_section(self) -> FileData | ArithmeticData | ListsData:
        """What a run knows of its data: every recipe of a run has the section."""
        return given(self.data, "data")

    @property
    def data_seed(self) -> int:
        """What decides which rows are held out and drawn."""
        return self.seed if self.seeds.data is None else self.seeds.data

    @property
    def teacher_seed(self) -> int:
        """What decides how teachers are fine-tuned and what they write."""
        return self.seed if self.seeds.teacher is None else self.seeds.teacher

    @property
    def student_seed(self) -> int:
        """What decides the plan, order, dropout, adapters, and what the student samples."""
        return self.seed if self.seeds.student is None else self.seeds.student

    @property
    def all_seeds(self) -> dict[str, int]:
        """The seeds that count, by their job."""
        return {
            "data": self.data_seed,
            "teacher": self.teacher_seed,
            "student": self.student_seed,
        }

    @property
    def ladder(self) -> dict[str, Teacher]:
        """The teachers by name from weak to strong; a single one is called ``teacher``."""
        if self.teachers:
            return {teacher.name: teacher for teacher in self.teachers}
        one = self.teacher
        return {} if one is None or one.model is None else {"teacher": one}

    def teacher_title(self, name: str) -> str:
        """What to call a teacher: one alone needs no name."""
        return "the teacher" if len(self.ladder) == 1 else f"the teacher {name}"

    @property
    def teachers_used(self) -> tuple[str, ...]:
        """Names of the teachers that anything is taken from, from weak to strong."""
        names = tuple(self.ladder)
        if not self.needs_teacher:
            return ()
        alone = teacher_schedule(self.teacher_schedule.kind).alone
        return names if alone is None else names[alone:][:1]

    @property
    def measures_teacher(self) -> bool:
        """Whether the teacher's loss is a part of difficulty."""
        return "teacher_losses" in needs_of(self.difficulty.kind, self.difficulty.options)

    @property
    def rounded_step(self) -> float | None:
        """The learning rate where weights are trained in 16 bits, which lose small steps."""
        half = self.student is not None and self.student.dtype == "bfloat16"
        return self.training.learning_rate if half and self.training.lora is None else None

    @property
    def in_chats(self) -> bool:
        """Whether examples are chats wherever the student's tokenizer has a chat template."""
        return getattr(self.data, "template", "auto") in ("auto", "chat")

    @property
    def uses_text(self) -> bool:
        """Whether the student learns from answers that teachers write."""
        return self.supervision.kind == "text"

    @property
    def needs_teacher(self) -> bool:
        """Whether any part of the run takes something from a teacher."""
        return self.uses_text or not self.loss.is_cross_entropy_alone or self.measures_teacher

    def _check_teachers(self) -> None:
        if self.teachers and self.teacher is not None:
            raise SettingError("teachers", "give either `teacher` or `teachers`, not both.")
        names = [teacher.name for teacher in self.teachers]
        for number, teacher in enumerate(self.teachers):
            if names.index(teacher.name) != number:
                raise SettingError(
                    f"teachers.{number}.name",
                    f"'{teacher.name}' is there twice. Give each teacher a name of its own.",
                )
            if teacher.model is None:
                raise SettingError(
                    f"teachers.{number}", f"the teacher '{teacher.name}' has no `model`. Give one."
                )
        if len({teacher.signal for teacher in self.teachers}) > 1:
            raise SettingError(
                "teachers", "all teachers of a ladder need the same `signal`. Give one to all."
            )
        with below("teacher_schedule"):
            schedule = self.teacher_schedule
            check_component("teacher schedule", schedule.kind, schedule.options)
        weights = schedule.options.get("weights")
        if weights is not None and len(weights) != len(self.ladder) and self.ladder:
            raise SettingError(
                "teacher_schedule.weights",
                f"{len(weights)} weights for {len(self.ladder)} teachers. Give one for each.",
            )
        if self.uses_text and teacher_schedule(schedule.kind).mixes:
            raise SettingError(
                "teacher_schedule.kind",
                f"an {schedule.kind} mixes distributions and cannot write answers. Use supervision:"
                " {kind: logits}, or another teacher schedule.",
            )

    def _check_names(self) -> None:
        """Names become folders: none may leave its place."""
        places = {"name": self.name, "arm": self.arm} | {f"controls.{c}": c for c in self.controls}
        places |= {f"teachers.{n}.name": t.name for n, t in enumerate(self.teachers)}
        for path, name in places.items():
            unnamed = not name and "." not in path
            if not unnamed and not re.fullmatch(NAME_PATTERN, name):
                raise SettingError(
                    path,
                    f"{shorten(name)} cannot name a folder. Use letters, digits, '.', '_', '+', '-'"
                    " and spaces, begin with a letter or digit, and end with no space.",
                )
            if len(name.encode("utf-8")) > LONGEST_NAME:
                raise SettingError(
                    path,
                    f"the name '{name[:20]}...' is too long for a folder ({len(name)} letters)."
                    f" Use {LONGEST_NAME} at most.",
                )

        arms: dict[str, str] = {"teacher": "teacher", "student_before": "student_before"}
        for path in ("arm", *(f"controls.{c}" for c in self.controls)):
            name = places[path]
            other = arms.setdefault(name.casefold(), name) if name else name
            if other != name or name in ("teacher", "student_before"):
                raise SettingError(
                    path,
                    f"the name '{name}' cannot be told from '{other}', which is in every report or"
                    " is another arm. Choose another name.",
                )

    def _check_schedules(self) -> None:
        stages = self.curriculum.stages
        specs = {name: (f"loss.{name}", getattr(self.loss, name)) for name in LOSS_VALUES}
        specs["on_policy"] = ("on_policy.fraction", self.on_policy.fraction)
        for name, (path, spec) in specs.items():
            if isinstance(spec, dict) and spec.get("kind") == "steps":
                count = len(spec["values"])
                if spec.get("per", "stage") == "stage" and count != stages:
                    raise SettingError(
                        path,
                        f"{count} values for {stages} stages. Give one value for each stage, or"
                        f" set curriculum.stages to {count}.",
                    )
            if fault := range_fault(name, *schedule_range(spec, stages)):
                raise SettingError(path, fault)
        check_vouching(self.loss, stages)
        check_states(self.loss, self.ladder.values(), self.teacher_schedule)
        if not self.on_policy.is_used:  # such an arm has a live teacher
            check_stored_temperature(self.loss, self.ladder.values(), stages)
        self._check_own_answers(stages)

    def _check_own_answers(self, stages: int) -> None:
        own = self.on_policy
        for name, low, high in (("horizon", 1, own.max_new_tokens), ("prefix", 0, 1)):
            spec = getattr(own, name)
            if spec is None:
                continue
            least, most = schedule_range(spec, stages)
            if not low <= least <= most <= high:
                raise SettingError(
                    f"on_policy.{name}",
                    f"must stay between {low} and {high}, and is {least:g} to {most:g}."
                    + (" Its end is on_policy.max_new_tokens." if name == "horizon" else ""),
                )
        if own.teacher_top_k is not None and teacher_schedule(self.teacher_schedule.kind).mixes:
            raise SettingError(
                "on_policy.teacher_top_k",
                f"one teacher draws tokens, and an {self.teacher_schedule.kind} is several. Leave"
                " it out, or name one teacher.",
            )
        if own.teacher_top_k is not None and self.loss.sampled:
            raise SettingError(
                "loss.sampled",
                "estimates from tokens that the student drew, and on_policy.teacher_top_k lets the"
                " teacher draw some. Leave one of the two out.",
            )
        if own.importance is not None:
            fault = why_not_weighed(
                own.importance,
                own.values_of(GenerationSettings),
                kept=own.reuse > 1 or own.adaptive is not None,
                mended=own.teacher_top_k is not None,
            )
            if fault is not None:
                raise SettingError("on_policy.importance", fault)
        if own.most_replayed is not None and own.most_replayed < self.training.batch_size:
            raise SettingError(
                "on_policy.adaptive.capacity",
                f"a replayed step needs training.batch_size={self.training.batch_size} answers, and"
                f" {own.most_replayed} are kept. Keep more, or lower the batch size.",
            )

    def missing(self) -> list[str]:
        """What a run needs and the recipe lacks, as dotted keys."""
        lacks = []
        if self.student is None:
            lacks.append("student.model")
        if self.needs_teacher and not self.ladder:
            lacks.append("teacher.model")
        if self.data is None or (isinstance(self.data, FileData) and self.data.train is None):
            lacks.append("data.train")
        if not lacks and self.looks_at_validation:
            data = self.data
            share = data.validation_share if isinstance(data, FileData) else 0.0
            if not (data and data.validation) and not share:
                lacks.append("data.validation")
        return lacks

    @property
    def looks_at_validation(self) -> bool:
        """Whether a run has to have validation data."""
        selects = self.selection.metric is not None and self.selection.suite is None
        return selects or self.on_policy.rule is not None
