"""A run folder read into plain values. Any file may be missing: then its value is empty or None."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.curriculum import plan_folder
from tutelage.curriculum.files import SCHEDULED
from tutelage.errors import RunFolderError
from tutelage.evaluation.kept import answer_score, values_of
from tutelage.report.reading import (
    read_columns,
    read_object,
    read_recipe,
    read_record,
    read_rows,
)
from tutelage.training.alarms import PREFIX

_OF_A_RUN = ("recipe.json", "recipe.yaml", "run.json", "arms")
"""What any run folder has at least one of, as soon as it is opened."""


@dataclass(frozen=True)
class Evaluated:
    """The evaluation of one model on the test set.

    Attributes:
        scores: metric name to ``{"mean", "seeds", "interval", "groups"}``.
        answers: example id to ``{id, prompt, reference, answer, answer_scores, group, scores}``, in
            file order; older runs have no ``answer_scores``.
        agreement: closeness to the teacher; empty when there is no teacher or it was not measured.
        num_examples: how many prompts were answered.
        truncated: share of answers that hit the length limit; None when it is not known.
        seconds: how long it took; None when it is not known.
    """

    scores: Mapping[str, Mapping[str, Any]]
    answers: Mapping[str, Mapping[str, Any]]
    agreement: Mapping[str, float]
    num_examples: int
    truncated: float | None
    seconds: float | None = None

    def values(self, metric: str) -> dict[str, float]:
        """The metric of every answered example by id; answers without it are left out."""
        return values_of(self.answers, metric)

    def answer_score(self, example: str, metric: str) -> float | None:
        """The metric of the very answer that is kept, where ``values`` has the mean over seeds."""
        return answer_score(self.answers.get(example, {}), metric)


@dataclass(frozen=True)
class Arm:
    """One student of the run, with its plan and what was logged.

    Attributes:
        name: of the arm.
        plan: ``plan.json`` of the plan that is carried out (the last one, where it is made anew
            while training); empty when there is none yet.
        steps: what the plan schedules, by name an array of its steps; empty when there is none yet.
        metrics: one row for each logged optimizer step, ascending.
        validation: one row for each validation, ascending.
        texts: ``texts/summary.json``, what became of the answers that teachers wrote, by teacher.
        has_student: whether its student is there.
        evaluation: the selected checkpoint on the test set.
        evaluation_last: the last checkpoint, when another one was selected.
    """

    name: str
    plan: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] = ()
    validation: Sequence[Mapping[str, Any]] = ()
    texts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    has_student: bool = False
    evaluation: Evaluated | None = None
    evaluation_last: Evaluated | None = None


@dataclass(frozen=True)
class Run:
    """Everything that a report reads.

    Attributes:
        folder: the run folder.
        info: ``run.json``.
        recipe: the resolved recipe as YAML text; empty when it is missing.
        versions: ``versions.json``.
        data: ``data/summary.json``, by split.
        difficulty: ``difficulty/summary.json``.
        scores: difficulty of every example, shape ``[N]``; empty when it is not measured yet.
        arms: the main arm first, the others in the order of the recipe.
        teacher: the evaluation of the teacher, of a ladder the strongest.
        student_before: the student's evaluation before distillation.
        weaker_teachers: evaluations of a ladder's other teachers by name, from weak to strong.
        further: scores of the suites after the first, by the place of the first one's results
            (``arms/cpd/evaluation``) and the name of the suite; without answers.
    """

    folder: Path
    info: Mapping[str, Any]
    recipe: str
    versions: Mapping[str, Any]
    data: Mapping[str, Any]
    difficulty: Mapping[str, Any]
    scores: NDArray[np.float64]
    arms: tuple[Arm, ...]
    teacher: Evaluated | None
    student_before: Evaluated | None
    weaker_teachers: Mapping[str, Evaluated] = field(default_factory=dict)
    further: Mapping[str, Mapping[str, Evaluated]] = field(default_factory=dict)

    @property
    def main(self) -> Arm | None:
        """The arm that the run is about; None when there is no arm yet."""
        return self.arms[0] if self.arms else None

    @property
    def place(self) -> str:
        """The folder as it was named when the run was made, for commands."""
        return str(self.info.get("folder") or self.folder.name)

    @property
    def title(self) -> str:
        """The title of the run, or its name, or the name of its folder."""
        return str(self.info.get("title") or self.info.get("name") or self.folder.name)


def load_run(folder: str | Path) -> Run:
    """Read a run folder, finished or not.

    Args:
        folder: the run folder.

    Returns:
        Its content; what is not there yet is empty or None.

    Raises:
        RunFolderError: there is no such folder, or one of its files is broken or was changed.
    """
    folder = Path(folder)
    there = os.path.isdir(folder)
    if not there or not any((folder / name).exists() for name in _OF_A_RUN):
        what = f"'{folder}' is no run folder" if there else f"There is no run folder '{folder}'"
        raise RunFolderError(
            f"{what}, so there is nothing to report on. Give the folder that `tutelage run`"
            " printed, or make one with `tutelage run RECIPE`."
        )
    info = read_record(folder / "run.json")
    references = folder / "references"
    profile = read_columns(folder / "difficulty" / "profile.parquet", ["score"])
    return Run(
        folder=folder,
        info=info,
        recipe=read_recipe(folder / "recipe.yaml", folder / "recipe.json"),
        versions=read_record(folder / "versions.json"),
        data=read_object(folder / "data" / "summary.json"),
        difficulty=read_object(folder / "difficulty" / "summary.json"),
        scores=np.asarray(profile.get("score", []), dtype=np.float64),
        arms=tuple(_load_arm(folder / "arms" / name) for name in _arm_names(folder, info)),
        teacher=load_evaluation(references / "teacher" / "evaluation"),
        student_before=load_evaluation(references / "student_before" / "evaluation"),
        weaker_teachers=_load_weaker(references, list(info.get("ladder") or {})),
        further=_load_further(folder, list(info.get("suites") or [])),
    )


def _arm_names(folder: Path, info: Mapping[str, Any]) -> list[str]:
    """Names of the arms, the main one first."""
    names = [str(name) for name in info.get("arms") or []]
    if not names and (folder / "arms").is_dir():
        found = (path for path in (folder / "arms").iterdir() if path.is_dir())
        names = sorted(path.name for path in found if not path.name.startswith("."))
    main = info.get("main_arm")
    return sorted(names, key=lambda name: name != main)


def _load_weaker(references: Path, ladder: Sequence[str]) -> dict[str, Evaluated]:
    """The evaluations of all teachers but the strongest, in the order of the ladder."""
    prefix = "teacher-"
    found = [path.name.removeprefix(prefix) for path in references.glob(f"{prefix}*")]
    places = {name: place for place, name in enumerate(ladder)}
    ordered = sorted(found, key=lambda name: (places.get(name, len(places)), name))
    loaded = {n: load_evaluation(references / f"{prefix}{n}" / "evaluation") for n in ordered}
    return {name: evaluated for name, evaluated in loaded.items() if evaluated is not None}


def _load_arm(folder: Path) -> Arm:
    plan, student = plan_folder(folder), folder / "student"
    # While a student is trained again, the older one does not know its records.
    owner = None if (folder / "training").is_dir() else student
    return Arm(
        name=folder.name,
        plan=read_object(plan / "plan.json"),
        steps=read_columns(plan / "steps.parquet", SCHEDULED),
        metrics=_by_step(read_rows(folder / "metrics.jsonl", owner)),
        validation=_by_step(read_rows(folder / "validation.jsonl", owner)),
        texts=read_object(folder / "texts" / "summary.json"),
        has_student=student.is_dir(),
        evaluation=load_evaluation(folder / "evaluation"),
        evaluation_last=load_evaluation(folder / "evaluation_last"),
    )


def _load_further(folder: Path, suites: Sequence[str]) -> dict[str, dict[str, Evaluated]]:
    """Scores of the suites after the first, in the order of the recipe."""
    places = {name: place for place, name in enumerate(suites)}
    found: dict[str, dict[str, Evaluated]] = {}
    for kind in ("arms", "references"):
        for scores in folder.glob(f"{kind}/*/evaluation*-*/scores.json"):
            part, _, suite = scores.parent.name.partition("-")
            # What a recipe asked before it was changed may be there still, of other models.
            evaluated = None if places and suite not in places else _scores_alone(scores.parent)
            if evaluated is not None:
                place = scores.parent.with_name(part).relative_to(folder).as_posix()
                found.setdefault(place, {})[suite] = evaluated
    return {
        place: dict(sorted(of_place.items(), key=lambda i: (places.get(i[0], len(places)), i[0])))
        for place, of_place in found.items()
    }


def load_evaluation(folder: Path) -> Evaluated | None:
    """The evaluation in ``folder``; None when its scores are not there yet."""
    found = _scores_alone(folder)
    if found is None:
        return None
    rows = read_rows(folder / "answers.jsonl", folder)
    answers = {str(row["id"]): row for row in rows if "id" in row}
    return dataclasses.replace(
        found,
        answers=answers,
        agreement=read_object(folder / "agreement.json"),
        num_examples=found.num_examples or len(answers),
    )


def _scores_alone(folder: Path) -> Evaluated | None:
    """An evaluation without its answers; None when its scores are not there yet."""
    scores = read_object(folder / "scores.json")
    if not scores:
        return None
    return Evaluated(
        # A metric that could not be computed has no mean, and nothing to show.
        scores={
            metric: score
            for metric, score in (scores.get("scores") or {}).items()
            if score.get("mean") is not None and math.isfinite(score["mean"])
        },
        answers={},
        agreement={},
        num_examples=int(scores.get("num_examples") or 0),
        truncated=scores.get("truncated"),
        seconds=scores.get("seconds"),
    )


def _by_step(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Rows ascending by step; of a step done twice (the run was resumed) the later row counts."""
    last = {int(row["step"]): row for row in rows if "step" in row}
    return [last[step] for step in sorted(last)]


def series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[NDArray, NDArray]:
    """Steps and values of a logged quantity, without rows where it is absent or not finite."""
    pairs = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), int | float)]
    pairs = [(step, float(value)) for step, value in pairs if math.isfinite(value)]
    return np.array([step for step, _ in pairs]), np.array([value for _, value in pairs])


def alarms(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """Step and words of every alarm in logged rows, ascending by step."""
    return [
        (row["step"], str(value))
        for row in rows
        for key, value in row.items()
        if key.startswith(PREFIX)
    ]


def learned(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Response tokens and seconds of a training, up to its last logged step.

    A row's ``response_tokens`` is the mean over the steps since the row before, like its losses;
    its ``seconds`` count from the beginning of the training, over every process that worked on it.
    """
    tokens, before = 0.0, 0
    for row in rows:
        tokens += (row["step"] - before) * float(row.get("response_tokens") or 0)
        before = row["step"]
    return tokens, float(rows[-1].get("seconds") or 0) if rows else 0.0
