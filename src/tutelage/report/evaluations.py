"""Evaluations of several models with several suites as values, each model beside the others."""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tutelage.errors import DataError
from tutelage.evaluation.compare import Answers, PairedComparison, adjusted, compare_answers
from tutelage.evaluation.kept import clusters_of
from tutelage.report.comparison import (
    Comparison,
    Model,
    entries,
    metric_of,
    natural,
    resampled,
    stored_score,
)
from tutelage.report.reading import read_object
from tutelage.report.run import Evaluated, Run, load_evaluation
from tutelage.statistics import Interval, interval_of_alike


@dataclass(frozen=True)
class ModelResult:
    """What one model answered and scored in one suite.

    Attributes:
        model: title of the model.
        suite: name of the suite.
        evaluated: scores and answers.
        seconds: how long it took; None when it is not known.
    """

    model: str
    suite: str
    evaluated: Evaluated
    seconds: float | None = None

    @classmethod
    def read(cls, folder: str | Path, model: str = "", suite: str = "") -> "ModelResult":
        """The result in the folder of an evaluation.

        Args:
            folder: with ``answers.jsonl``, ``scores.json`` and maybe ``suite.json``.
            model: title; empty: what ``suite.json`` says, or the name of the folder above.
            suite: name; empty: what ``suite.json`` says, or the name of the folder.

        Raises:
            DataError: there is no evaluation.
            RunFolderError: a file is broken or was changed.
        """
        folder = Path(os.path.abspath(folder))
        evaluated = load_evaluation(folder)
        if evaluated is None:
            raise DataError(
                f"There is no '{folder / 'scores.json'}', so there is no evaluation to show. Make"
                " one with `tutelage eval MODEL --suite NAME`."
            )
        about = read_object(folder / "suite.json")
        seconds = about.get("seconds", evaluated.seconds)
        return cls(
            model=model or str(about.get("model") or folder.parent.name),
            suite=suite or str(about.get("suite") or folder.name),
            evaluated=evaluated,
            seconds=None if seconds is None else float(seconds),
        )


def read_results(folder: str | Path) -> list[ModelResult]:
    """All results below a folder that has one for each model, with one for each suite in it.

    Args:
        folder: what ``tutelage eval`` wrote.

    Raises:
        DataError: there is none.
        RunFolderError: a file is broken or was changed.
    """
    found = [path.parent for path in Path(folder).glob("*/*/scores.json")]
    found = [path for path in found if not path.parent.name.startswith(".")]
    if not found:
        raise DataError(
            f"No evaluation was found below '{folder}' (MODEL/SUITE/scores.json), so there is"
            " nothing to show. Make one with `tutelage eval MODEL --suite NAME`."
        )
    ordered = sorted(found, key=lambda path: (natural(path.parent.name), natural(path.name)))
    return [ModelResult.read(path) for path in ordered]


@dataclass(frozen=True)
class SuiteResults:
    """All models in one suite.

    Attributes:
        name: of the suite.
        results: by model.
        comparison: the models beside each other; the first metric leads.
        pairs: the first model against each of the others, question by question.
        refused: why some could not be compared, in words.
    """

    name: str
    results: tuple[ModelResult, ...]
    comparison: Comparison
    pairs: tuple[PairedComparison, ...]
    refused: tuple[str, ...]


def by_suite(results: Sequence[ModelResult]) -> list[SuiteResults]:
    """The results suite by suite, the first model held against each of the others.

    Args:
        results: the first model is the one that the others are held against. Order of models and
            suites is that of their first result.

    Returns:
        Suites with their comparisons; p-values are adjusted over all of them together.

    Raises:
        DataError: no results, or two of one model in one suite.
    """
    if not results:
        raise DataError("There are no results to show. Evaluate a model with a suite first.")
    models = list(dict.fromkeys(result.model for result in results))
    suites: dict[str, dict[str, ModelResult]] = {}
    for result in results:
        of_suite = suites.setdefault(result.suite, {})
        if result.model in of_suite:
            raise DataError(
                f"There are two results of the model '{result.model}' in the suite"
                f" '{result.suite}', and no telling which counts. Give models titles of their own."
            )
        of_suite[result.model] = result
    found = [
        _suite(name, [of_suite[model] for model in models if model in of_suite], models[0])
        for name, of_suite in suites.items()
    ]
    pairs = iter(adjusted([pair for suite in found for pair in suite.pairs]))
    return [
        dataclasses.replace(suite, pairs=tuple(next(pairs) for _ in suite.pairs)) for suite in found
    ]


def of_run(run: Run) -> list[SuiteResults]:
    """The suites of a run, with its models beside each other; empty for a run of one suite.

    Args:
        run: its answers to the suites after the first are not read, so nothing is compared.
    """
    names = [str(name) for name in run.info.get("suites") or []]
    later = {suite: None for found in run.further.values() for suite in found}
    if not later:
        return []
    first = next((name for name in names if name not in later), "test")
    suites: dict[str, list[ModelResult]] = {name: [] for name in (first, *later)}
    for entry in entries(run):
        if entry.evaluated is not None:
            suites[first].append(ModelResult(entry.name, first, entry.evaluated))
        for suite, evaluated in run.further.get(entry.place, {}).items():
            suites[suite].append(ModelResult(entry.name, suite, evaluated))
    return [_beside(name, results) for name, results in suites.items() if results]


def _suite(name: str, results: list[ModelResult], first: str) -> SuiteResults:
    """The models beside each other, and the first against the others."""
    found = _beside(name, results)
    pairs, refused = _pairs(results, first, found.comparison)
    return dataclasses.replace(found, pairs=tuple(pairs), refused=tuple(refused))


def _beside(name: str, results: list[ModelResult]) -> SuiteResults:
    models = [
        Model(
            result.model,
            "arm",
            result.evaluated,
            {metric: _score(result.evaluated, metric) for metric in result.evaluated.scores},
        )
        for result in results
    ]
    metrics = dict.fromkeys(metric for model in models for metric in model.scores)
    groups = {
        str(row["group"])
        for result in results
        for row in result.evaluated.answers.values()
        if row.get("group")
    }
    comparison = Comparison(
        tuple(metric_of(metric, models) for metric in metrics),
        tuple(models),
        tuple(sorted(groups, key=natural)),
        _interval,
    )
    return SuiteResults(name, tuple(results), comparison, (), ())


def _pairs(
    results: list[ModelResult], first: str, comparison: Comparison
) -> tuple[list[PairedComparison], list[str]]:
    """The first model against the others; what cannot be compared is said, and the rest shown."""
    pairs: list[PairedComparison] = []
    refused: list[str] = []
    answers = {result.model: Answers(result.model, result.evaluated.answers) for result in results}
    ours = answers.pop(first, None)
    metric = comparison.metrics[0].name if comparison.metrics else ""
    if ours is None:
        return [], []
    for theirs in answers.values():
        try:
            pairs.append(compare_answers(ours, theirs, metric))
        except DataError as error:
            refused.append(str(error))
    return pairs, refused


def _score(evaluated: Evaluated, metric: str) -> Interval:
    """Mean and interval as they were stored, or Wilson's interval."""
    values, clusters = evaluated.values(metric), clusters_of(evaluated.answers)
    found = interval_of_alike(list(values.values()), [clusters.get(i, "") for i in values])
    return found or stored_score(evaluated, metric)


def _interval(values: Sequence[float], clusters: Sequence[str]) -> Interval:
    return interval_of_alike(values, clusters) or resampled(values, clusters)
