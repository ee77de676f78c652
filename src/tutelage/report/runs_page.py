"""Several runs on one page: what differs between their recipes, and what came of it.

Each run stands with its main arm, or with all of its arms; the first is held against the others,
question by question, where they were asked the same.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tutelage.errors import ConfigError
from tutelage.files import atomic_write_text
from tutelage.report import evaluation_views as evaluation
from tutelage.report.evaluation_page import CHANGES, suite_view
from tutelage.report.evaluations import ModelResult, SuiteResults, by_suite
from tutelage.report.outcome_plots import curves_figure
from tutelage.report.page_tables import Cell, Row, View
from tutelage.report.quantities import MISSING, count, duration, large, seeds_text, short_name
from tutelage.report.run import Arm, Run, learned, load_evaluation, load_run
from tutelage.report.templating import render

RUNS_NAME = "comparison.html"

_ABOUT = ("name", "title", "description", "output", "paper", "differs_from_paper")
"""Keys of a recipe that change nothing of what is done."""

_CURVES = (("loss", "Loss"), ("kd", "Divergence from the target"))

_LONGEST = 80
"""Characters of a setting that are shown."""


@dataclass(frozen=True)
class Runs:
    """Runs that are compared.

    Attributes:
        runs: by name, the first is the one that the others are held against.
        models: name to run and arm of every model that is compared.
        suites: what was scored, and the paired differences.
        differing: key of the recipe to its value in each run, where they are not all the same.
        data: of each run after the first, whether it was asked the same test questions, in words.
        same_data: whether all of them were.
    """

    runs: Mapping[str, Run]
    models: Mapping[str, tuple[Run, Arm]]
    suites: Sequence[SuiteResults]
    differing: Mapping[str, Sequence[Any]]
    data: Sequence[str]
    same_data: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "runs": {name: str(run.folder) for name, run in self.runs.items()},
            "recipes_differ_in": {
                key: dict(zip(self.runs, values, strict=True))
                for key, values in self.differing.items()
            },
            "same_test_data": self.same_data,
            "test_data": list(self.data),
            "suites": {suite.name: _plain(suite) for suite in self.suites},
            "verdict": evaluation.verdict(self.suites),
        }


def _plain(suite: SuiteResults) -> dict[str, Any]:
    return {
        "scores": {
            r.model: {k: dict(v) for k, v in r.evaluated.scores.items()} for r in suite.results
        },
        "differences": [
            {
                "first": pair.first,
                "second": pair.second,
                "metric": pair.metric,
                "mean": pair.difference.mean,
                "interval": [pair.difference.low, pair.difference.high]
                if pair.difference.known
                else None,
                "p": pair.test.p,
                "adjusted_p": pair.adjusted_p,
                "examples": pair.num_shared,
            }
            for pair in suite.pairs
        ],
        "not_compared": list(suite.refused),
    }


def compare_runs(folders: Sequence[str | Path], *, all_arms: bool = False) -> Runs:
    """Read runs and hold them against the first.

    Args:
        folders: of the runs, two or more.
        all_arms: compare every arm, not the main ones alone.

    Raises:
        ConfigError: fewer than two, or one of them twice.
        RunFolderError: one is no run folder, or a file in it is broken.
    """
    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise ConfigError(
            "A comparison needs two different run folders or more, and got"
            f" {', '.join(map(str, paths))}. Give each folder once."
        )
    runs = dict(zip(_names(paths), map(load_run, paths), strict=True))
    models = {
        (f"{name}: {arm.name}" if all_arms else name): (run, arm)
        for name, run in runs.items()
        for arm in (run.arms if all_arms else run.arms[:1])
    }
    results = [result for name, (run, arm) in models.items() for result in _results(name, run, arm)]
    data = [_same_data(*pair) for pair in _with_first(runs)]
    return Runs(
        runs,
        models,
        by_suite(results) if results else [],
        _differing([_flat(run) for run in runs.values()]),
        [words for _, words in data],
        all(same for same, _ in data),
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' own names, or as much of their paths as tells them apart."""
    parts = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _results(name: str, run: Run, arm: Arm) -> list[ModelResult]:
    """What an arm's student scored in each suite, with its answers."""
    place = f"arms/{arm.name}/evaluation"
    further = run.further.get(place, {})
    suites = [str(suite) for suite in run.info.get("suites") or ["test"]]
    first = next((suite for suite in suites if suite not in further), "test")
    found = {} if arm.evaluation is None else {first: arm.evaluation}
    for suite in further:
        evaluated = load_evaluation(run.folder / f"{place}-{suite}")
        if evaluated is not None:
            found[suite] = evaluated
    return [ModelResult(name, suite, one, one.seconds) for suite, one in found.items()]


def _with_first(runs: Mapping[str, Run]) -> list[tuple[tuple[str, Run], tuple[str, Run]]]:
    (first, *others) = runs.items()
    return [(first, other) for other in others]


def _same_data(first: tuple[str, Run], other: tuple[str, Run]) -> tuple[bool, str]:
    """Whether two runs asked the same of their students: ids and contents of every test example."""
    asked = []
    for _, run in (first, other):
        found = run.main.evaluation if run.main else None
        asked.append({} if found is None else found.answers)
    names = f"{first[0]} and {other[0]}"
    if not all(asked):
        return False, f"{names}: not known before both are evaluated."
    ours, theirs = asked
    shared = [i for i in ours if i in theirs]
    changed = [
        i
        for i in shared
        if any(ours[i].get(key) != theirs[i].get(key) for key in ("prompt", "reference"))
    ]
    if len(shared) == len(ours) == len(theirs) and not changed:
        return True, f"{names}: the same {count(len(ours))} test examples, by id and by content."
    words = f"{names}: not the same test examples. {count(len(shared))} ids are shared"
    if changed:
        words += f", of which {count(len(changed))} have another prompt or reference"
    alone = (len(ours) - len(shared), len(theirs) - len(shared))
    words += f"; {count(alone[0])} and {count(alone[1])} are in one alone."
    return False, words


def _flat(run: Run) -> dict[str, Any]:
    """The recipe of a run by dotted keys, without what changes nothing."""
    recipe = yaml.safe_load(run.recipe) if run.recipe else {}
    if isinstance(recipe.get("seeds"), dict):  # what is not given is as `seed`
        seeds = {k: recipe.get("seed") if v is None else v for k, v in recipe["seeds"].items()}
        recipe = {**recipe, "seeds": seeds}
    return {k: v for k, v in _leaves("", recipe) if k.partition(".")[0] not in _ABOUT}


def _leaves(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        return [
            leaf
            for key, below in value.items()
            for leaf in _leaves(f"{prefix}.{key}" if prefix else str(key), below)
        ]
    return [(prefix, value)]


def _differing(recipes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Keys whose values are not all the same; a key that a recipe lacks is None there."""
    keys = dict.fromkeys(itertools.chain.from_iterable(recipes))
    values = {key: [recipe.get(key) for recipe in recipes] for key in keys}
    return {k: v for k, v in values.items() if any(one != v[0] for one in v)}


def write_runs_page(runs: Runs, path: str | Path) -> Path:
    """Write a page about several runs, wholly or not at all, and return its path."""
    atomic_write_text(path, render_runs_page(runs))
    return Path(path)


def render_runs_page(runs: Runs) -> str:
    """The page as text; the same files always give the same page."""
    pairs = [(suite, pair) for suite in runs.suites for pair in suite.pairs]
    sections = [("recipes", "What differs"), ("scores", "Scores"), ("curves", "Curves")]
    sections += [("changes", "Answers")] if pairs else []
    return render(
        "runs.html",
        title=" and ".join(map(short_name, runs.runs)),
        facts=[],
        sections=sections,
        verdict=evaluation.verdict(runs.suites),
        data=runs.data,
        same_data=runs.same_data,
        waiting=[name for name, (_, arm) in runs.models.items() if arm.evaluation is None],
        recipes=_recipes_view(runs),
        about=_about_view(runs),
        suites=[suite_view(suite, place) for place, suite in enumerate(runs.suites)],
        refused=[f"{suite.name}: {words}" for suite in runs.suites for words in suite.refused],
        forest=evaluation.differences_picture(runs.suites),
        differences=evaluation.differences_view(runs.suites) if pairs else None,
        curves=_curves(runs),
        curves_by_time=_curves(runs, by_time=True),
        changes=[evaluation.changes_of(suite, pair, CHANGES) for suite, pair in pairs],
        first=next(iter(runs.models), ""),
    )


def _recipes_view(runs: Runs) -> View | None:
    """The settings that differ, side by side."""
    if not runs.differing:
        return None
    rows = tuple(
        Row(key, tuple(Cell(_setting(value)) for value in values))
        for key, values in runs.differing.items()
    )
    return View("Settings that differ", ("setting", *runs.runs), rows)


def _setting(value: Any) -> str:
    text = MISSING if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _about_view(runs: Runs) -> View:
    """What each run is, and what its training took."""
    rows = []
    for name, (run, arm) in runs.models.items():
        tokens, seconds = learned(arm.metrics)
        cells = (
            str(run.info.get("name") or MISSING),
            arm.name,
            seeds_text(run.info.get("seeds") or {}) or MISSING
            if run.info.get("seeds")
            else MISSING,
            large((run.info.get("student") or {}).get("parameters")),
            count(arm.plan.get("total_steps")),
            count(tokens) if tokens else MISSING,
            duration(seconds) if seconds else MISSING,
        )
        rows.append(Row(name, tuple(map(Cell, cells)), "main" if not rows else ""))
    headers = (
        "run",
        "recipe",
        "arm",
        "seeds",
        "parameters",
        "steps",
        "response tokens",
        "training",
    )
    return View("The runs and what their training took", headers, tuple(rows))


def _curves(runs: Runs, *, by_time: bool = False) -> Any:
    """Losses and validations of all models on one axis: steps, or seconds of training."""
    metrics, validation = {}, {}
    for name, (_, arm) in runs.models.items():
        label = short_name(name)
        metrics[label], validation[label] = arm.metrics, arm.validation
        if by_time:
            metrics[label] = [_at(row, row.get("seconds")) for row in arm.metrics]
            validation[label] = [_at(row, _time_of(arm, row["step"])) for row in arm.validation]
    if not by_time:
        return curves_figure(metrics, validation, _CURVES)
    picture = curves_figure(metrics, validation, _CURVES, x_label="seconds of training")
    return None if picture is None else dataclasses.replace(picture, name="time")


def _at(row: Mapping[str, Any], place: float | None) -> dict[str, Any]:
    return {**row, "step": 0.0 if place is None else float(place)}


def _time_of(arm: Arm, step: int) -> float | None:
    """Seconds of training at a step, between the records before and after it."""
    if not arm.metrics:
        return None
    steps = [0, *(row["step"] for row in arm.metrics)]
    seconds = [0.0, *(float(row.get("seconds") or 0) for row in arm.metrics)]
    return float(np.interp(step, steps, seconds))
