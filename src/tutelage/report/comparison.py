"""What the evaluations say: models beside each other, paired differences, and a verdict in words.

Everything is computed from the files of the run; nothing here knows which arm ought to win.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tutelage.evaluation.kept import clusters_of
from tutelage.report.quantities import fixed, metric_words
from tutelage.report.run import Evaluated, Run
from tutelage.statistics import Difference, Interval, bootstrap, paired_difference

_LOWER_IS_BETTER = {"loss", "nll", "kl", "perplexity", "bits", "ece", "error", "errors", "distance"}
_NO_SHARES = {"entropy"}
"""Words of metrics that may lie between 0 and 1 and are not a share of anything."""

OVERALL = "all"


@dataclass(frozen=True)
class Metric:
    """How a metric is read and written.

    Attributes:
        name: as in ``scores.json``.
        scale: factor between the stored value and the one that is shown.
        lower_is_better: whether a smaller value is the better one.
    """

    name: str
    scale: float = 1.0
    lower_is_better: bool = False

    @property
    def label(self) -> str:
        """The name in words, with its unit."""
        return self.words + (" (%)" if self.scale == 100 else "")

    @property
    def words(self) -> str:
        """The name in words."""
        return metric_words(self.name)

    def text(self, value: float | None, *, sign: bool = False) -> str:
        """A value on the scale that is shown."""
        if value is None:
            return fixed(None)
        shown = fixed(self.scale * value, 1 if self.scale == 100 else 3)
        return f"+{shown}" if sign and value > 0 else shown

    def interval(self, value: Interval, *, sign: bool = False) -> str:
        """The ends of an interval: ``68.1 to 74.0``; empty when there is none."""
        if not value.known:
            return ""
        return f"{self.text(value.low, sign=sign)} to {self.text(value.high, sign=sign)}"


@dataclass(frozen=True)
class Model:
    """One evaluated model.

    Attributes:
        name: what the reader calls it.
        kind: ``"main"``, ``"arm"``, ``"last"`` (another checkpoint of an arm), ``"before"`` (the
            student before distillation), ``"teacher"`` or ``"weaker"`` (a ladder's other teacher).
        evaluated: its evaluation.
        scores: metric name to mean and interval.
        differences: metric name to "main arm minus this model" over the examples of both.
    """

    name: str
    kind: str
    evaluated: Evaluated
    scores: Mapping[str, Interval]
    differences: Mapping[str, Difference] = field(default_factory=dict)

    @property
    def is_arm(self) -> bool:
        """Whether the model is a student of this run, at its selected checkpoint."""
        return self.kind in ("main", "arm")


def resampled(values: Sequence[float], clusters: Sequence[str]) -> Interval:
    """A mean with its bootstrap interval."""
    return bootstrap(values, clusters=clusters)


@dataclass(frozen=True)
class Comparison:
    """All evaluated models of a run.

    Attributes:
        metrics: the first one is the one that counts.
        models: main arm, other arms, other checkpoints, student before, teachers (weak to strong).
        groups: labels of the test examples in natural order; empty when they have none.
        interval: mean and interval of the scores of a group, with the cluster of each.
    """

    metrics: tuple[Metric, ...]
    models: tuple[Model, ...]
    groups: tuple[str, ...]
    interval: Callable[[Sequence[float], Sequence[str]], Interval] = resampled

    @property
    def arms(self) -> tuple[Model, ...]:
        """The students of this run, the main one first."""
        return tuple(model for model in self.models if model.is_arm)

    def of_kind(self, kind: str) -> Model | None:
        """The first model of a kind, or None."""
        return next((model for model in self.models if model.kind == kind), None)

    def by_group(self, model: Model, metric: Metric) -> dict[str, Interval]:
        """Mean and interval of a model over all examples and within each group.

        The mean comes from the scores; its interval is resampled from the single answers.
        """
        values = model.evaluated.values(metric.name)
        members: dict[str, list[float]] = {}
        clusters: dict[str, list[str]] = {}
        for example, value in values.items():
            row = model.evaluated.answers[example]
            group = str(row.get("group") or "")
            members.setdefault(group, []).append(value)
            clusters.setdefault(group, []).append(str(row.get("cluster") or ""))
        means = model.evaluated.scores.get(metric.name, {}).get("groups") or {}
        found = {OVERALL: model.scores[metric.name]} if metric.name in model.scores else {}
        for group in self.groups:
            around = self.interval(members[group], clusters[group]) if group in members else None
            if group in means:
                ends = (around.low, around.high) if around else ()
                found[group] = Interval(float(means[group]), *ends)
            elif around is not None:
                found[group] = around
        return found


@dataclass(frozen=True)
class Entry:
    """A model that a run may have evaluated.

    Attributes:
        name: what the reader calls it.
        kind: as of :class:`Model`.
        place: folder of its evaluation within the run.
        evaluated: None where it was not evaluated yet.
    """

    name: str
    kind: str
    place: str
    evaluated: Evaluated | None


def entries(run: Run) -> list[Entry]:
    """The models of a run: main arm, other arms, other checkpoints, student before, teachers."""
    found = []
    for arm in run.arms:
        kind = "main" if arm is run.main else "arm"
        found.append(Entry(arm.name, kind, f"arms/{arm.name}/evaluation", arm.evaluation))
    for arm in run.arms:
        place, name = f"arms/{arm.name}/evaluation_last", f"{arm.name}, last checkpoint"
        found.append(Entry(name, "last", place, arm.evaluation_last))
    before = "references/student_before/evaluation"
    found.append(Entry("student before", "before", before, run.student_before))
    for name, weaker in run.weaker_teachers.items():
        place = f"references/teacher-{name}/evaluation"
        found.append(Entry(f"teacher {name}", "weaker", place, weaker))
    place = "references/teacher/evaluation"
    return [*found, Entry(_teacher_name(run), "teacher", place, run.teacher)]


def compare(run: Run) -> Comparison:
    """Put the evaluated models of a run beside each other; those not evaluated yet are left out."""
    present = [
        (one.name, one.kind, one.evaluated) for one in entries(run) if one.evaluated is not None
    ]
    main = next((found for _, kind, found in present if kind == "main"), None)
    names = {metric: None for _, _, found in present for metric in found.scores}
    models = []
    for name, kind, found in present:
        scores = {metric: stored_score(found, metric) for metric in found.scores}
        differences = {}
        if main is not None and found is not main:
            for metric in names:
                difference = paired_difference(
                    main.values(metric), found.values(metric), clusters=clusters_of(main.answers)
                )
                if difference is not None:
                    differences[metric] = difference
        models.append(Model(name, kind, found, scores, differences))
    groups = {
        str(row["group"])
        for model in models
        for row in model.evaluated.answers.values()
        if row.get("group")
    }
    groups |= {
        str(group)
        for model in models
        for score in model.evaluated.scores.values()
        for group in score.get("groups") or {}
    }
    return Comparison(
        metrics=tuple(metric_of(name, models) for name in names),
        models=tuple(models),
        groups=tuple(sorted(groups, key=natural)),
    )


def _teacher_name(run: Run) -> str:
    """What the strongest teacher is called: by its own name where there are several."""
    ladder = list(run.info.get("ladder") or {})
    return f"teacher {ladder[-1]}" if len(ladder) > 1 else "teacher"


def natural(text: str) -> list[tuple[int, float | str]]:
    """Sort key that puts ``level 2`` before ``level 10``, 2 before 10, and -1.5 before -1.25."""
    if re.fullmatch(r"[-+]?\d+(\.\d+)?", text):
        return [(0, float(text))]
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def stored_score(evaluated: Evaluated, metric: str) -> Interval:
    """Mean and interval as ``scores.json`` has them."""
    stored = evaluated.scores[metric]
    ends = stored.get("interval")
    return Interval(float(stored["mean"]), *(map(float, ends) if ends else ()))


def metric_of(name: str, models: Sequence[Model]) -> Metric:
    """How a metric is shown: in percent when it is a share, as when all its means are in [0, 1]."""
    return shown_as(name, [model.scores[name].mean for model in models if name in model.scores])


def shown_as(name: str, means: Sequence[float]) -> Metric:
    """How a metric with these means is shown."""
    words = set(re.split(r"[_\W]+", name.lower()))
    lower = bool(_LOWER_IS_BETTER & words)
    share = not lower and not _NO_SHARES & words and all(0 <= mean <= 1 for mean in means)
    return Metric(name, scale=100.0 if share else 1.0, lower_is_better=lower)
