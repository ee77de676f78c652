"""What a study file may say, its defaults, and what each key means."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from tutelage.recipe.base import Count, NotEmpty, Positive, Seed, Strict
from tutelage.recipe.words import SettingError

Currency = Literal["updates", "student_tokens", "flops", "seconds"]
"""What all arms have the same amount of."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"

FIRST_SEARCH_SEED = 1000
"""Seeds of the search, unless they are given: none of them is a seed of the final runs."""


MOST_SEEDS = 10_000
"""Of more the list itself would take the memory."""


def _numbered(given: Any) -> Any:
    """A number of seeds stands for the first so many."""
    if not isinstance(given, int) or isinstance(given, bool):
        return given
    if given > MOST_SEEDS:
        raise ValueError(
            f"asks for {given} seeds, each of them a run of every arm, and {MOST_SEEDS} are the"
            " most. Give fewer, or a list of the seeds themselves."
        )
    return list(range(given))


SeedList = Annotated[list[Seed], BeforeValidator(_numbered), Field(min_length=1)]


class SeedsSection(Strict):
    """Seeds of the final runs; several lists are walked along together."""

    student: SeedList = Field(
        default=[0, 1, 2],
        description="Order, dropout, sampling: a list, or how many from 0 on.",
    )
    teacher: SeedList | None = Field(
        default=None, description="Fine-tuning and texts of the teachers, one for each run."
    )
    data: SeedList | None = Field(
        default=None, description="Splits (or the embedded data themselves), one for each run."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_student(cls, given: Any) -> Any:
        """A number or a list alone is meant for the student."""
        return given if isinstance(given, dict) else {"student": given}

    @model_validator(mode="after")
    def _as_many(self) -> "SeedsSection":
        for name in ("teacher", "data"):
            seeds = getattr(self, name)
            if seeds is not None and len(seeds) not in (1, len(self.student)):
                raise SettingError(
                    name,
                    f"has {len(seeds)} seeds, and `student` {len(self.student)}. Give as many, or"
                    " one for all.",
                )
        if len(set(self.all)) < len(self.student):
            raise SettingError("student", "the same seeds are there twice. Remove one.")
        return self

    @property
    def all(self) -> list[tuple[tuple[str, int], ...]]:
        """The seeds of each run, by their job."""
        found = []
        for place, student in enumerate(self.student):
            one = [("student", student)]
            for name in ("teacher", "data"):
                seeds = getattr(self, name)
                if seeds is not None:
                    one.append((name, seeds[place if len(seeds) > 1 else 0]))
            found.append(tuple(one))
        return found


class EqualSection(Strict):
    """How much every arm may spend: what the control spends for so many updates."""

    by: Currency = Field(
        default="updates",
        description="What is the same for all: "
        + ", ".join(("updates", "student_tokens", "flops", "seconds"))
        + ".",
    )
    updates: Positive = Field(
        default=100, description="Updates of the control; the others get as much of `by`."
    )


class SearchSection(Strict):
    """Settings that are chosen for every arm, by the same budget, before the final runs."""

    factors: dict[NotEmpty, Any] = Field(
        default={},
        description="Dotted keys of a recipe and the values to try; for optuna also ranges, as in"
        " {low: 1e-4, high: 1e-2, log: true}.",
    )
    arms: dict[NotEmpty, dict[NotEmpty, Any]] = Field(
        default={}, description="Other factors for single arms, instead of `factors`."
    )
    seeds: SeedList = Field(
        default=[FIRST_SEARCH_SEED],
        description="Student seeds that decide; they are no seeds of the final runs.",
    )
    rungs: Positive = Field(
        default=1,
        description="In how many steps the weakest are stopped; 1: all run to their end. More are"
        " cheaper, and favour low learning rates.",
    )
    keep: float = Field(
        default=1 / 3, gt=0, lt=1, description="Which part goes on from a rung to the next."
    )
    least: Positive = Field(
        default=3,
        description="So many go on to the last rung: a single one is chosen while learning rates"
        " still are high, when low ones are ahead.",
    )
    measure: NotEmpty = Field(
        default="log_likelihood",
        description="What decides, on the validation data: log_likelihood of right answers,"
        " neg_forward_kl to the teacher, or a metric of the recipe.",
    )
    limit: Positive | None = Field(default=None, description="Decide on so many examples.")
    across_arms: bool = Field(
        default=False,
        description="One race of all arms: the final runs are of the winner and of the control.",
    )
    sampler: Literal["grid", "optuna"] = Field(
        default="grid", description="All combinations, or as many as `trials` that optuna asks for."
    )
    trials: Positive = Field(
        default=16, description="How many settings optuna asks for, for each cell."
    )


class LauncherSection(Strict):
    """What each job asks for, where workers are jobs: ``--launcher slurm`` or ``local``."""

    time: NotEmpty = Field(
        default="4h", description="After so long a job is queued again, and goes on: 30m, 4h."
    )
    cpus: Positive | None = Field(default=None, description="Cores; None: `threads`, or 1.")
    gpus: Count = Field(default=0, description="GPUs.")
    memory: float | None = Field(default=None, gt=0, description="Memory in GB.")
    partition: NotEmpty | None = Field(default=None, description="Of SLURM.")
    account: NotEmpty | None = Field(default=None, description="Of SLURM.")
    sbatch: dict[NotEmpty, Any] = Field(
        default={}, description="Other options of sbatch, as in {constraint: a100, qos: long}."
    )
    requeues: Count = Field(
        default=100, description="How often a job is queued again when its time is up."
    )


class Study(Strict):
    """Arms x factors x seeds, on one pair of models and one set of data, at equal cost."""

    name: str = Field(default="", description="Its folder; the file's name when left out.")
    title: str = Field(default="", description="Heading of the page.")
    claim: str = Field(default="", description="What is tested, in a sentence.")
    base: NotEmpty = Field(description="The recipe with models, data and evaluation.")
    set: dict[str, Any] = Field(
        default={}, description="Changes for all arms, over their methods, as a recipe says them."
    )
    arms: dict[NotEmpty, dict[str, Any]] = Field(
        min_length=1, description="Methods with their changes, as controls of a recipe."
    )
    factors: dict[NotEmpty, Any] = Field(
        default={},
        description="Dotted keys and their values (a list, or labels with values), each combination"
        " for each arm.",
    )
    control: str | dict[str, Any] = Field(
        default="",
        description="What all are held against: an arm, or {arm: NAME, KEY: VALUE}; '': the first.",
    )
    seeds: SeedsSection = Field(default_factory=SeedsSection, description="Of the final runs.")
    equal: EqualSection = Field(default_factory=EqualSection, description="What all arms spend.")
    search: SearchSection | None = Field(
        default=None, description="What is tuned for each arm first."
    )
    measures: list[NotEmpty] = Field(
        default=[],
        description="SUITE:METRIC of the final runs, the first one leads; all of the recipe's when"
        " empty.",
    )
    curve: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Look at the validation data so often while training, for any-time curves.",
    )
    curve_measure: NotEmpty = Field(
        default="log_likelihood", description="What the curves show; as `search.measure`."
    )
    threads: Positive | None = Field(
        default=None, description="Of each run; None: the machine's cores by the workers."
    )
    keep: Literal["students", "scores"] = Field(
        default="students", description="What stays of a finished run, here and in the cache."
    )
    launcher: LauncherSection = Field(
        default_factory=LauncherSection, description="What jobs ask for, with --launcher."
    )
    output: NotEmpty = Field(
        default="runs", description="Where the studies and the cache that they share are."
    )

    @model_validator(mode="after")
    def _fits(self) -> "Study":
        if self.name and not re.match(NAME_PATTERN, self.name):
            raise SettingError("name", "cannot name a folder. Use letters, digits, '.', '_', '-'.")
        for arm in self.arms:
            if not re.match(NAME_PATTERN, arm):
                raise SettingError(
                    f"arms.{arm}", "cannot name a folder. Use letters, digits, '.', '_', '-'."
                )
        if self.search is not None:
            for arm in self.search.arms:
                if arm not in self.arms:
                    known = ", ".join(self.arms)
                    raise SettingError(
                        f"search.arms.{arm}", f"is no arm of the study. Known: {known}."
                    )
            shared = {*self.search.seeds} & {*self.seeds.student}
            if shared:
                raise SettingError(
                    "search.seeds",
                    f"{min(shared)} is a seed of the final runs too, whose scores would not be"
                    " fresh. Choose others.",
                )
        return self
