"""The section of a recipe that says what is measured."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from tutelage.generation.settings import GenerationSettings
from tutelage.recipe.base import (
    Choice,
    NotEmpty,
    Positive,
    Precision,
    Seed,
    Strict,
    Temperature,
    same_as,
)
from tutelage.recipe.names import check_component
from tutelage.recipe.words import SettingError, below


class SuiteChoice(Choice):
    """A suite by its ``kind``; every other key is one of its options."""

    name: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$|^$",
        description="What its results are called; as the suite when empty.",
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        """A name is a suite without options; what follows a colon is its task."""
        return _with_task({"kind": given} if isinstance(given, str) else given)

    def check(self) -> None:
        """Make sure that there is such a suite with such options.

        Raises:
            SettingError: there is not.
        """
        check_component("suite", self.kind, self.options, known=("name",))

    @property
    def called(self) -> str:
        """What its results are called."""
        return self.name or self.kind


def _with_task(item: Any) -> Any:
    """``lm-eval:TASK`` is the suite ``lm-eval`` with its option ``task``."""
    kind = item.get("kind") if isinstance(item, dict) else None
    if not isinstance(kind, str) or ":" not in kind:
        return item
    suite, _, task = kind.partition(":")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", f"{suite}-{task}")
    return {"name": name, **item, "kind": suite, "task": task}


class EvaluationSection(Strict):
    """What is measured on the test data."""

    metrics: dict[str, dict[str, Any]] = Field(
        default={"rouge_l": {}},
        description="A list of names, or a mapping of names to options; the first one leads.",
    )
    max_new_tokens: int = same_as(GenerationSettings, "max_new_tokens")
    max_total_tokens: int | None = same_as(GenerationSettings, "max_total_tokens")
    sampling_temperature: Temperature = same_as(GenerationSettings, "sampling_temperature")
    top_p: float = same_as(GenerationSettings, "top_p")
    top_k: int = same_as(GenerationSettings, "top_k")
    seeds: list[Seed] = Field(default=[10], min_length=1, description="Sampling seeds.")
    limit: Positive | None = Field(default=None, description="Evaluate on so many examples.")
    stop_strings: list[NotEmpty] = same_as(GenerationSettings, "stop_strings", default=[])
    batch_tokens: int = same_as(GenerationSettings, "batch_tokens")
    precision: Precision = same_as(GenerationSettings, "precision")
    suites: list[SuiteChoice] = Field(
        default=[SuiteChoice(kind="test")],
        min_length=1,
        description="What is asked: names of suites, or mappings of `kind` and options; see"
        " `tutelage ls suites`. The first one's results lead.",
    )
    teacher: bool = Field(default=True, description="Evaluate the teacher too.")
    student_before: bool = Field(
        default=True, description="Evaluate the student before distillation too."
    )
    agreement: bool = Field(
        default=True, description="Measure divergence and agreement to the teacher."
    )
    checkpoints: Literal["selected", "best_and_last"] = Field(
        default="best_and_last", description="Evaluate the last checkpoint beside the selected one."
    )

    @field_validator("metrics", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        """A list of names is a mapping without options; an item with options has one key."""
        if isinstance(given, str):
            given = [given]
        if not isinstance(given, list):
            return given
        found: dict[str, Any] = {}
        for item in given:
            one = {item: {}} if isinstance(item, str) else item
            if not isinstance(one, dict) or len(one) != 1:
                raise ValueError("a list of metrics holds names, or {name: options}")
            if not found.keys().isdisjoint(one):
                raise ValueError(f"the metric '{next(iter(one))}' is there twice")
            found |= one
        return found

    @field_validator("suites", mode="before")
    @classmethod
    def _several(cls, given: Any) -> Any:
        """One suite is a list of one."""
        return [given] if isinstance(given, (str, dict)) else given

    @model_validator(mode="after")
    def _known(self) -> "EvaluationSection":
        if len(set(self.seeds)) != len(self.seeds):
            raise SettingError("seeds", "a seed is there twice, and its answers would count twice.")
        called = [suite.called for suite in self.suites]
        if len(set(called)) != len(called):
            raise SettingError("suites", "a suite is there twice: give each a `name` of its own.")
        for place, suite in enumerate(self.suites):
            with below(f"suites.{place}"):
                suite.check()
        if not self.metrics:
            raise ValueError("name at least one metric, as in {rouge_l: {}}")
        for name, options in self.metrics.items():
            try:
                check_component("metric", name, options)
            except SettingError as error:
                # A metric's name is a key here, so that an unknown one has no `kind` to point at.
                key = "" if error.path == "kind" else f".{error.path}"
                raise SettingError(f"metrics.{name}{key}".rstrip("."), str(error)) from error
        return self
