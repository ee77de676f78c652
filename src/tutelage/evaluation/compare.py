"""Two models on the same questions: by how much they differ, whether that is chance, and where."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.errors import DataError
from tutelage.evaluation.kept import Rows, answer_score, clusters_of, read_answers, values_of
from tutelage.statistics import (
    Difference,
    Interval,
    PairedTest,
    holm,
    paired_difference,
    paired_test,
    standard_error,
)


@dataclass(frozen=True)
class Answers:
    """What a model answered to the questions of a suite.

    Attributes:
        model: what it is called.
        rows: by id the rows of ``answers.jsonl``.
    """

    model: str
    rows: Rows

    @classmethod
    def read(cls, folder: str | Path, model: str = "") -> "Answers":
        """The answers in the folder of an evaluation, called by its name where none is given."""
        return cls(model or str(folder), read_answers(folder))

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of its scores; the first leads."""
        return tuple(
            dict.fromkeys(m for row in self.rows.values() for m in row.get("scores") or ())
        )


@dataclass(frozen=True)
class Change:
    """A question to which two models gave answers of different worth.

    Attributes:
        id: of the question.
        first: score of the first model's answer.
        second: score of the second one's.
    """

    id: str
    first: float
    second: float


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the questions that both were asked.

    Attributes:
        first: name of the first model.
        second: name of the second one.
        metric: the score that is compared.
        difference: mean of first minus second, with its 95 % interval over questions, or over
            clusters of them.
        standard_error: of that mean, over the same.
        test: whether the two differ.
        adjusted_p: its p after Holm's adjustment for all tests that were made together.
        num_shared: questions that both have a score for.
        num_first_only: questions that only the first one has a score for.
        num_second_only: questions that only the second one has a score for.
        num_clusters: clusters among the shared questions; as many as questions where none share
            anything.
        groups: the difference within each group of questions, in order of appearance.
        binary: whether answers are right or wrong, and nothing between.
        changes: questions whose kept answers have different scores, the largest difference first;
            among equals the hash of the id decides.
    """

    first: str
    second: str
    metric: str
    difference: Interval
    standard_error: float
    test: PairedTest
    adjusted_p: float
    num_shared: int
    num_first_only: int
    num_second_only: int
    num_clusters: int
    groups: Mapping[str, Difference]
    binary: bool
    changes: tuple[Change, ...]

    @property
    def first_better(self) -> tuple[Change, ...]:
        """Changes where the first model's answer has the higher score."""
        return tuple(change for change in self.changes if change.first > change.second)

    @property
    def second_better(self) -> tuple[Change, ...]:
        """Changes where the second model's answer has the higher score."""
        return tuple(change for change in self.changes if change.first < change.second)


def compare_models(models: Sequence[Answers], metric: str = "") -> list[PairedComparison]:
    """The first model against each of the others, with p-values adjusted over all of them.

    Args:
        models: at least two.
        metric: as in :func:`compare_answers`.

    Raises:
        DataError: as :func:`compare_answers`.
    """
    first, *others = models
    return adjusted([compare_answers(first, other, metric) for other in others])


def adjusted(comparisons: Iterable[PairedComparison]) -> list[PairedComparison]:
    """The comparisons with Holm's adjustment for all of them."""
    found = list(comparisons)
    p_values = holm([one.test.p for one in found])
    return [dataclasses.replace(one, adjusted_p=p) for one, p in zip(found, p_values, strict=True)]


def compare_answers(first: Answers, second: Answers, metric: str = "") -> PairedComparison:
    """Compare two models question by question.

    Args:
        first: what one model answered.
        second: what the other answered.
        metric: the score to compare; empty: the leading one that both have.

    Raises:
        DataError: they were asked other questions under the same ids, share no question, or have no
            metric in common.
    """
    check_same_questions(first, second)
    metric = _metric(first, second, metric)
    ours, theirs = values_of(first.rows, metric), values_of(second.rows, metric)
    # Sorted, so that what is drawn does not depend on the order in which answers were stored.
    shared = sorted(ours.keys() & theirs.keys())
    if not shared:
        raise DataError(
            f"'{first.model}' and '{second.model}' share no question that both have a score for"
            f" ({len(ours)} and {len(theirs)} have one), so there are no pairs to compare. Evaluate"
            " both with the same suite, data and limit."
        )
    found = clusters_of(first.rows)
    clusters = [found.get(i, "") for i in shared]
    scores = np.array([[values[i] for i in shared] for values in (ours, theirs)])
    whole = paired_difference(ours, theirs, clusters=found)
    assert whole is not None
    test = paired_test(scores[0], scores[1], clusters)
    kept = _kept_scores(first, second, shared, metric)
    return PairedComparison(
        first=first.model,
        second=second.model,
        metric=metric,
        difference=whole.interval,
        standard_error=standard_error(scores[0] - scores[1], clusters),
        test=test,
        adjusted_p=test.p,
        num_shared=len(shared),
        num_first_only=len(ours) - len(shared),
        num_second_only=len(theirs) - len(shared),
        num_clusters=len({name for name in clusters if name}) + clusters.count(""),
        groups=_by_group(first, ours, theirs, found),
        binary=all(score in (0.0, 1.0) for pair in kept.values() for score in pair),
        changes=_changes(kept),
    )


def check_same_questions(first: Answers, second: Answers) -> None:
    """Refuse answers to other questions under the same ids: they are no pairs."""
    shared = [i for i in first.rows if i in second.rows]
    # One question may have been asked as a conversation and as a text.
    unsure = [i for i in shared if not _same_question(first.rows[i], second.rows[i])]
    for key in ("prompt", "reference"):
        other = [i for i in unsure if first.rows[i].get(key) != second.rows[i].get(key)]
        if other:
            raise DataError(
                f"'{first.model}' and '{second.model}' were not asked the same: question"
                f" '{other[0]}' has another {key} for each ({len(other)} of {len(shared)} shared"
                " ids), so their answers are no pairs. Evaluate both with the same data, options of"
                " the suite and form of the prompt."
            )


def _same_question(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both rows are known to be of the same question, in whatever form it was asked."""
    return bool(one.get("question")) and one.get("question") == other.get("question")


def forms_differ(first: Answers, second: Answers) -> bool:
    """Whether a question of both was asked in another form, or after another text."""
    return any(
        row.get("prompt") != second.rows[i].get("prompt")
        for i, row in first.rows.items()
        if i in second.rows
    )


def _metric(first: Answers, second: Answers, asked: str) -> str:
    """The metric that is compared."""
    if not asked:
        asked = next((name for name in first.metrics if name in second.metrics), "")
    if not asked or asked not in first.metrics or asked not in second.metrics:
        names = [", ".join(one.metrics) or "none" for one in (first, second)]
        what = f"the score '{asked}'" if asked else "a score"
        raise DataError(
            f"'{first.model}' and '{second.model}' do not both have {what}: they have {names[0]},"
            f" and {names[1]}. Evaluate both with the same suite."
        )
    return asked


def _by_group(
    first: Answers,
    ours: Mapping[str, float],
    theirs: Mapping[str, float],
    clusters: Mapping[str, str],
) -> dict[str, Difference]:
    members: dict[str, dict[str, float]] = {}
    for example, value in ours.items():
        group = str(first.rows[example].get("group") or "")
        if group:
            members.setdefault(group, {})[example] = value
    found = {
        group: paired_difference(values, theirs, clusters=clusters)
        for group, values in members.items()
    }
    return {group: difference for group, difference in found.items() if difference is not None}


def _kept_scores(
    first: Answers, second: Answers, shared: Sequence[str], metric: str
) -> dict[str, tuple[float, float]]:
    """Scores of the answers that are kept, by id, where both have one."""
    found = {}
    for example in shared:
        pair = [answer_score(one.rows[example], metric) for one in (first, second)]
        if pair[0] is not None and pair[1] is not None:
            found[example] = (pair[0], pair[1])
    return found


def _changes(kept: Mapping[str, tuple[float, float]]) -> tuple[Change, ...]:
    changes = [Change(i, ours, theirs) for i, (ours, theirs) in kept.items() if ours != theirs]
    return tuple(
        sorted(changes, key=lambda c: (-round(abs(c.first - c.second), 9), _shuffled(c.id)))
    )


def _shuffled(example: str) -> str:
    """A fixed order that has nothing to do with the order of the file, so that nobody picks."""
    return hashlib.sha256(example.encode("utf-8")).hexdigest()
