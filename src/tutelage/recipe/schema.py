"""A whole recipe, and the checks that need more than one section."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from tutelage.recipe.sections import (
    ArithmeticData,
    Curriculum,
    Difficulty,
    Evaluation,
    FileData,
    Loss,
    Selection,
    Strict,
    Student,
    Teacher,
    Training,
)

Data = Annotated[FileData | ArithmeticData, Field(discriminator="kind")]

NO_RESULT = (
    "title",
    "description",
    "differs_from_paper",
    "paper",
    "output",
    "training.log_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.report_to",
    "training.num_threads",
)
"""Fields that change no result; they are left out of the fingerprint and may change in a resume."""


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
    seed: int = Field(
        default=0, description="Seed of shuffling, sampling data, dropout and adapters."
    )
    student: Student | None = Field(default=None, description="The model that learns.")
    teacher: Teacher | None = Field(default=None, description="The model that teaches.")
    data: Data | None = Field(default=None, description="What is learned and tested.")
    difficulty: Difficulty = Field(
        default_factory=Difficulty, description="How hard an example is."
    )
    curriculum: Curriculum = Field(
        default_factory=Curriculum, description="Which examples come when."
    )
    loss: Loss = Field(default_factory=Loss, description="What is minimised.")
    training: Training = Field(default_factory=Training, description="How it is minimised.")
    selection: Selection = Field(
        default_factory=Selection, description="Which checkpoint is the student."
    )
    evaluation: Evaluation = Field(default_factory=Evaluation, description="What is measured.")
    controls: dict[str, dict[str, Any]] = Field(
        default={},
        description="Further arms: changes to this recipe, at the same number of updates.",
    )
    output: str = Field(default="runs", description="Where run folders go.")

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        metric = self.selection.metric
        if metric is not None and metric not in self.evaluation.metrics:
            known = ", ".join(self.evaluation.metrics)
            raise ValueError(
                f"selection.metric '{metric}' is not among evaluation.metrics: {known}"
            )
        if self.student is not None and self.student.init_from == "TEACHER":
            missing = self.teacher is None or self.teacher.model is None
            if missing and self.data is not None:
                raise ValueError("student.init_from is TEACHER, and there is no teacher.model")
        for field in ("ce_weight", "distill_temperature", "student_share"):
            spec = getattr(self.loss, field)
            if isinstance(spec, dict) and spec.get("kind") == "steps":
                count = len(spec["values"])
                if spec.get("per", "stage") == "stage" and count != self.curriculum.stages:
                    raise ValueError(
                        f"loss.{field} has {count} values for {self.curriculum.stages} stages"
                    )
        return self

    def missing(self) -> list[str]:
        """What a run needs and the recipe lacks, as dotted keys."""
        lacks = []
        if self.student is None:
            lacks.append("student.model")
        has_teacher = self.teacher is not None and self.teacher.model is not None
        if not has_teacher and not self.loss.is_cross_entropy_alone:
            lacks.append("teacher.model")
        if self.data is None or (isinstance(self.data, FileData) and self.data.train is None):
            lacks.append("data.train")
        if not lacks and self.selection.metric is not None:
            data = self.data
            share = data.validation_share if isinstance(data, FileData) else 0.0
            if not (data and data.validation) and not share:
                lacks.append("data.validation")
        return lacks
