"""What the results of a study say: means, paired differences with their intervals, and tests.

Everything is taken from the results alone. Runs that are missing are named, never guessed, and
nothing here knows which arm ought to win.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tutelage.report.comparison import Metric, natural, shown_as
from tutelage.report.quantities import seeds_text
from tutelage.statistics import SeededDifference, holm, seeded_difference
from tutelage.studies.costs import Cost, Curve, cost_of, curve_of
from tutelage.studies.load import LoadedStudy
from tutelage.studies.results import Result, Scores
from tutelage.studies.trials import Race, races_of, settings_text

ALPHA = 0.05
"""At or below this adjusted p the test over seeds confirms a difference."""

CLOSENESS = "forward_kl"
"""Of the closeness to the teacher what is compared, a mean of each run."""

SeedKey = tuple[tuple[str, int], ...]
Runs = Mapping[SeedKey, Result]


@dataclass(frozen=True)
class Measure:
    """A number that runs are compared by.

    Attributes:
        key: ``SUITE:METRIC``, or the name of a closeness to the teacher.
        metric: how its values are shown, and which are better.
        suite: where it is measured; empty where there is only one.
    """

    key: str
    metric: Metric
    suite: str = ""

    @property
    def label(self) -> str:
        """The name in words, with its unit."""
        return f"{self.suite}: {self.metric.label}" if self.suite else self.metric.label

    @property
    def unit(self) -> str:
        """What a difference is in."""
        return "points" if self.metric.scale == 100 else self.metric.words


@dataclass(frozen=True)
class Outcome:
    """What a cell scored by one measure, and by how much it differs from its control.

    Attributes:
        by_seed: mean of each run that is there, by its seeds.
        mean: over these runs; NaN without any.
        spread: their standard deviation; NaN for fewer than two.
        difference: cell minus control over the seeds that both have; None for a control, and
            without such seeds.
        adjusted_p: its p after Holm's adjustment for all cells; None without a difference.
    """

    by_seed: Mapping[str, float]
    mean: float
    spread: float
    difference: SeededDifference | None = None
    adjusted_p: float | None = None


@dataclass(frozen=True)
class CellAnalysis:
    """One row of the table.

    Attributes:
        name: of the cell.
        arm: its arm.
        levels: label of its level by factor.
        control: name of the cell that it is held against; its own for a control.
        seeds: of the runs that are there.
        missing: seeds of those that are not.
        tuned: the settings that the search chose, as people read them; several where runs differ.
        outcomes: by key of the measure, those that it has.
        groups: of the leading measure, by group of examples.
        cost: means over its runs; None while that is not known.
        curve: quality while training; None where it was not looked at.
    """

    name: str
    arm: str
    levels: Mapping[str, str]
    control: str
    seeds: tuple[str, ...]
    missing: tuple[str, ...]
    tuned: tuple[str, ...]
    outcomes: Mapping[str, Outcome]
    groups: Mapping[str, Outcome]
    cost: Cost | None
    curve: Curve | None

    @property
    def is_control(self) -> bool:
        """Whether it is held against nothing."""
        return self.control == self.name

    @property
    def wanted(self) -> int:
        """How many runs it should have."""
        return len(self.seeds) + len(self.missing)


@dataclass(frozen=True)
class Analysis:
    """All that a study's results tell.

    Attributes:
        name: of the study.
        title: what to call it.
        claim: what is tested.
        measures: the first one leads.
        cells: in the order of the study; without those that a race of all arms left behind.
        left: names of the latter.
        groups: labels of the examples' groups.
        currency: what all cells should spend alike.
        races: what the search tried and chose.
        references: mean by name of ``teacher`` and ``student_before``, of each measure that has it.
    """

    name: str
    title: str
    claim: str
    measures: tuple[Measure, ...]
    cells: tuple[CellAnalysis, ...]
    left: tuple[str, ...]
    groups: tuple[str, ...]
    currency: str
    races: tuple[Race, ...]
    references: Mapping[str, Mapping[str, float]]

    @property
    def compared(self) -> tuple[CellAnalysis, ...]:
        """The cells that are held against another one."""
        return tuple(cell for cell in self.cells if not cell.is_control)

    @property
    def num_missing(self) -> int:
        """Runs that are not there."""
        return sum(len(cell.missing) for cell in self.cells)

    def leading(self, cell: CellAnalysis) -> Outcome | None:
        """The outcome of a cell by the leading measure."""
        return cell.outcomes.get(self.measures[0].key) if self.measures else None

    def num_tests(self, key: str) -> int:
        """How many tests Holm's adjustment of a measure is for."""
        found = (cell.outcomes.get(key) for cell in self.compared)
        return sum(one is not None and one.difference is not None for one in found)


def analyse(loaded: LoadedStudy, results: Sequence[Result]) -> Analysis:
    """What is known from the results that are there.

    Args:
        loaded: the study.
        results: of any role; those of other cells and seeds than the study has now count nothing,
            and of two of the same cell and seeds the later one is taken.
    """
    study, cells = loaded.study, loaded.cells
    wanted = [_key(dict(seeds)) for seeds in study.seeds.all]
    runs: dict[str, dict[SeedKey, Result]] = {cell.name: {} for cell in cells}
    for result in results:
        if result.role == "final" and result.cell in runs and _key(result.seeds) in wanted:
            runs[result.cell][_key(result.seeds)] = result
    races = study.search is not None and study.search.across_arms
    left = [cell.name for cell in cells if races and not runs[cell.name]]
    measures = _measures(study.measures, [one for found in runs.values() for one in found.values()])
    found = []
    for cell in cells:
        if cell.name in left:
            continue
        own, control = runs[cell.name], loaded.control_of(cell)
        there = {seeds: own[seeds] for seeds in wanted if seeds in own}
        against = {} if control.name == cell.name else runs[control.name]
        found.append(
            CellAnalysis(
                name=cell.name,
                arm=cell.arm,
                levels={level.factor: level.label for level in cell.levels},
                control=control.name,
                seeds=tuple(_text(seeds) for seeds in there),
                missing=tuple(_text(seeds) for seeds in wanted if seeds not in own),
                tuned=tuple(
                    dict.fromkeys(settings_text(r.tuned) for r in there.values() if r.tuned)
                ),
                outcomes=_outcomes(measures, there, against),
                groups=_by_group(measures, there, against),
                cost=cost_of(own.values(), runs[control.name].values(), study.equal.by),
                curve=curve_of(own.values(), study.curve_measure),
            )
        )
    return Analysis(
        name=study.name,
        title=study.title or study.name,
        claim=study.claim,
        measures=measures,
        cells=_adjusted(found, measures),
        left=tuple(left),
        groups=tuple(sorted({group for cell in found for group in cell.groups}, key=natural)),
        currency=study.equal.by,
        races=races_of(loaded, results, {name: list(own.values()) for name, own in runs.items()}),
        references=_references([one for own in runs.values() for one in own.values()]),
    )


def _key(seeds: Mapping[str, int]) -> SeedKey:
    return tuple(sorted(seeds.items()))


def _text(seeds: SeedKey) -> str:
    return seeds_text(dict(seeds))


def _measures(chosen: Sequence[str], runs: Sequence[Result]) -> tuple[Measure, ...]:
    """What can be compared: of the scores those that were chosen, or all; and the closeness."""
    means: dict[str, list[float]] = {}
    for run in runs:
        for key, scores in run.scores.items():
            if not chosen or key in chosen:
                means.setdefault(key, []).append(scores.mean)
    keys = [key for key in chosen if key in means] or list(means)
    suites = {key.partition(":")[0] for key in keys}
    found = []
    for key in keys:
        suite, _, name = key.partition(":")
        found.append(Measure(key, shown_as(name, means[key]), suite if len(suites) > 1 else ""))
    if any(CLOSENESS in run.agreement for run in runs):
        found.append(Measure(CLOSENESS, Metric(CLOSENESS, lower_is_better=True)))
    return tuple(found)


def _outcomes(
    measures: Sequence[Measure],
    own: Runs,
    control: Runs,
) -> dict[str, Outcome]:
    found = {}
    for measure in measures:
        ours = {_text(seeds): _values(run, measure.key) for seeds, run in own.items()}
        theirs = {_text(seeds): _values(run, measure.key) for seeds, run in control.items()}
        clusters = _clusters(own.values(), measure.key)
        outcome = _outcome(ours, theirs, clusters)
        if outcome is not None:
            found[measure.key] = outcome
    return found


def _values(run: Result, key: str) -> dict[str, float]:
    """A run's values by example id; of what is known only as a mean, under one name."""
    if key in run.scores:
        scores = run.scores[key]
        return dict(zip(scores.ids, scores.values, strict=True))
    value = run.agreement.get(key, math.nan)
    return {"": value} if math.isfinite(value) else {}


def _clusters(runs: Iterable[Result], key: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for run in runs:
        if key in run.scores:
            found |= dict(zip(run.scores[key].ids, run.scores[key].clusters, strict=True))
    return found


def _outcome(
    ours: Mapping[str, Mapping[str, float]],
    theirs: Mapping[str, Mapping[str, float]],
    clusters: Mapping[str, str],
) -> Outcome | None:
    """Both by seeds, then by example id; None where the cell has no value."""
    means = {seed: float(np.mean(list(values.values()))) for seed, values in ours.items() if values}
    if not means:
        return None
    pairs = []
    for seed in means:
        other = theirs.get(seed, {})
        shared = ours[seed].keys() & other.keys()
        if shared:
            pairs.append({i: ours[seed][i] - other[i] for i in shared})
    return Outcome(
        by_seed=means,
        mean=float(np.mean(list(means.values()))),
        spread=float(np.std(list(means.values()), ddof=1)) if len(means) > 1 else math.nan,
        difference=seeded_difference(pairs, clusters) if pairs else None,
    )


def _by_group(
    measures: Sequence[Measure],
    own: Runs,
    control: Runs,
) -> dict[str, Outcome]:
    """The leading measure over the examples of each group."""
    if not measures or measures[0].key == CLOSENESS:
        return {}
    key = measures[0].key
    names = {group for run in own.values() if key in run.scores for group in run.scores[key].groups}
    found = {}
    for name in sorted(names - {""}, key=natural):
        ours = {_text(seeds): _within(run.scores.get(key), name) for seeds, run in own.items()}
        theirs = {
            _text(seeds): _within(run.scores.get(key), name) for seeds, run in control.items()
        }
        outcome = _outcome(ours, theirs, _clusters(own.values(), key))
        if outcome is not None:
            found[name] = outcome
    return found


def _within(scores: Scores | None, group: str) -> dict[str, float]:
    if scores is None:
        return {}
    rows = zip(scores.ids, scores.values, scores.groups, strict=True)
    return {i: value for i, value, name in rows if name == group}


def _adjusted(
    cells: Sequence[CellAnalysis], measures: Sequence[Measure]
) -> tuple[CellAnalysis, ...]:
    """The cells with p-values that are adjusted for all cells, measure by measure."""
    outcomes = [dict(cell.outcomes) for cell in cells]
    for measure in measures:
        tested = [
            (found, difference.test.p)
            for found in outcomes
            if measure.key in found and (difference := found[measure.key].difference) is not None
        ]
        adjusted = holm([p for _, p in tested])
        for (found, _), p in zip(tested, adjusted, strict=True):
            found[measure.key] = replace(found[measure.key], adjusted_p=p)
    return tuple(replace(cell, outcomes=found) for cell, found in zip(cells, outcomes, strict=True))


def _references(runs: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Means of the models that the runs compare with, over the runs that have them."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for name, means in run.references.items():
            for key, value in means.items():
                found.setdefault(name, {}).setdefault(key, []).append(value)
    return {
        name: {key: float(np.mean(values)) for key, values in means.items()}
        for name, means in found.items()
    }
