"""Evaluate a model: ask it all questions of a suite, score its answers, keep what was found."""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.errors import ConfigError
from tutelage.evaluation.answering import Progress, Sample, generate
from tutelage.evaluation.measuring import measured
from tutelage.evaluation.metric import bound_metrics
from tutelage.evaluation.pieces import Kept
from tutelage.evaluation.question import Question, question_digest
from tutelage.evaluation.suite import Suite
from tutelage.evaluation.suites.table import make_suite
from tutelage.files import atomic_write_json, atomic_write_text
from tutelage.generation import Engine, LocalEngine
from tutelage.statistics import (
    Interval,
    bootstrap,
    bootstrap_sums,
    interval_of_alike,
    pass_at_k,
)
from tutelage.types import Evaluation, Score

SCORES_FILE, ANSWERS_FILE = "scores.json", "answers.jsonl"

_RESAMPLES = 1000
"""Behind every interval in a `scores.json` so far: more would move the ends that were published."""


@dataclass(frozen=True)
class Evaluated:
    """What a model answered to all questions of a suite, and what that is worth.

    Attributes:
        questions: what was asked, N of them.
        prompts: each as people read it, in the form in which it was asked.
        samples: scored answers, shape ``[S, N]``, one row for each seed.
        ks: numbers of answers for pass@k of the leading metric.
        weights: by metric how much each question counts in its mean; those left out count alike.
        overall: by metric what only all questions together have.
    """

    questions: Sequence[Question]
    prompts: Sequence[str]
    samples: Sequence[Sequence[Sample]]
    ks: tuple[int, ...] = ()
    weights: Mapping[str, Sequence[float]] = field(default_factory=dict)
    overall: Mapping[str, Interval] = field(default_factory=dict)

    @functools.cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        """By metric the score of every seed and question, shape ``[S, N]``."""
        names = self.samples[0][0].scores
        return {
            name: np.array([[sample.scores[name] for sample in row] for row in self.samples])
            for name in names
        }

    @functools.cached_property
    def example_scores(self) -> dict[str, dict[str, float]]:
        """Metric name -> example id -> score, the mean over seeds, by which models are compared."""
        found = {name: array_SN.mean(axis=0) for name, array_SN in self._arrays.items()}
        leading = next(iter(self._arrays.values()))
        found |= {f"pass@{k}": _passed(leading, k) for k in self.ks}
        return {name: self._by_id(array_N) for name, array_N in found.items()}

    @functools.cached_property
    def answer_scores(self) -> dict[str, dict[str, float]]:
        """The same of the first seed alone, whose answers are shown."""
        return {name: self._by_id(array_SN[0]) for name, array_SN in self._arrays.items()}

    @functools.cached_property
    def evaluation(self) -> Evaluation:
        """Means, intervals, groups and the first answers."""
        ids = [question.id for question in self.questions]
        cut_SN = [[sample.truncated for sample in row] for row in self.samples]
        scores = {
            name: _score(
                np.array([of_metric[i] for i in ids]),
                self._seeds(name),
                self.questions,
                self.weights.get(name),
            )
            for name, of_metric in self.example_scores.items()
        }
        scores |= {name: _alone(interval) for name, interval in self.overall.items()}
        return Evaluation(
            num_examples=len(ids),
            scores=scores,
            answers={i: s.answer for i, s in zip(ids, self.samples[0], strict=True)},
            truncated=float(np.mean(cut_SN)),
        )

    @property
    def scores(self) -> Mapping[str, Score]:
        """Metric name to its score over all questions."""
        return self.evaluation.scores

    @property
    def without_room(self) -> int:
        """Answers that the length limit cut before their first word: the prompt filled it."""
        return sum(sample.truncated and not sample.answer for row in self.samples for sample in row)

    def _by_id(self, array_N: np.ndarray) -> dict[str, float]:
        ids = [question.id for question in self.questions]
        return dict(zip(ids, map(float, array_N), strict=True))

    def _seeds(self, name: str) -> tuple[float, ...]:
        """The mean of each seed; pass@k is of all of them together."""
        array_SN = self._arrays.get(name)
        if array_SN is None:
            return ()
        return tuple(np.average(array_SN, axis=1, weights=self.weights.get(name)).tolist())


def evaluate_suite(
    engine: Engine,
    questions: Sequence[Question],
    suite: Suite,
    progress: Progress | None = None,
    *,
    kept: Kept | None = None,
) -> Evaluated:
    """Ask a model all questions for every seed, and score the answers.

    Args:
        engine: answers with the model that is evaluated.
        questions: all of these are asked.
        suite: metrics, generation, seeds.
        progress: called with (answers done, answers in all), over all seeds.
        kept: what a run that was cut off has found, to which more is added.

    Raises:
        DataError: no questions, ids that repeat, or references that a metric cannot use. Found
            before anything is generated.
    """
    suite.check(questions)
    if suite.measure is not None:
        return _measure(engine, questions, suite, kept, progress)
    samples = generate(engine, suite, questions, kept, progress)
    asked = [*questions] * len(samples)
    answers = [sample.answer for row in samples for sample in row]
    scores = {name: metric.score(asked, answers) for name, metric in suite.metrics.items()}
    scored = [
        [
            replace(
                sample,
                scores={name: float(found[s * len(row) + n]) for name, found in scores.items()},
            )
            for n, sample in enumerate(row)
        ]
        for s, row in enumerate(samples)
    ]
    return Evaluated(questions, _prompts(engine, questions, suite), scored, suite.ks)


def _measure(
    engine: Engine,
    questions: Sequence[Question],
    suite: Suite,
    kept: Kept | None,
    progress: Progress | None,
) -> Evaluated:
    """What a suite finds that generates nothing."""
    found = measured(engine, questions, suite, kept, progress)
    row = [
        Sample(
            suite.seeds[0],
            shown,
            truncated=False,
            scores={name: float(values[place]) for name, values in found.scores.items()},
        )
        for place, shown in enumerate(found.shown)
    ]
    return Evaluated(
        questions,
        _prompts(engine, questions, suite),
        [row],
        weights=found.weights,
        overall=found.overall,
    )


def _prompts(engine: Engine, questions: Sequence[Question], suite: Suite) -> list[str]:
    """Each question as people read it, in the form in which it is asked."""
    return [question.read_as(suite.prompt_of(question, engine)) for question in questions]


def evaluate(
    model: Any,
    tokenizer: Any,
    suite: Suite | str,
    data: str | Path | Sequence[Question] | None = None,
    *,
    progress: Progress | None = None,
    **options: Any,
) -> Evaluated:
    """Evaluate a model that is in memory.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        suite: a suite, or the name of one in the table.
        data: the file that a suite of the table reads, or the questions themselves.
        progress: called with (answers done, answers in all).
        options: of the suite of the table.

    Raises:
        ConfigError: there is no such suite or option.
        DataError: the questions cannot be read, asked or scored.

    Examples:
        >>> evaluate(model, tokenizer, "gsm8k", "test.jsonl", shots=4).scores  # doctest: +SKIP
    """
    if isinstance(suite, str):
        given = {} if data is None or not isinstance(data, str | Path) else {"data": str(data)}
        asked = Suite(suite, bound_metrics({"rouge_l": {}}))
        suite = make_suite(suite, {**given, **options}, asked)
    if data is not None and not isinstance(data, str | Path):
        questions: Sequence[Question] = data
    elif suite.read is not None:
        questions = suite.questions()
    else:
        raise ConfigError(
            f"The suite '{suite.name}' has no questions of its own. Give them as `data`."
        )
    return evaluate_suite(LocalEngine(model, tokenizer), questions, suite, progress)


def save_evaluation(folder: str | Path, evaluated: Evaluated) -> None:
    """Write an evaluation into a folder, each file wholly or not at all.

    ``answers.jsonl`` has a row for each question: ``id``, ``question`` (a digest of all that it
    is), ``prompt`` (as it was asked), ``reference`` (the first), ``answer`` and ``answer_scores``
    (of the first seed), ``group``, ``cluster``, ``scores`` (means over seeds) and ``samples``
    (``seed``, ``answer``, ``truncated`` and ``scores`` of each seed). ``scores.json`` has
    ``num_examples``, ``truncated`` and ``scores`` by metric, the number of answers
    ``without_room`` if there are any, and is written last.

    Args:
        folder: where to write; made when it is not there.
        evaluated: what ``evaluate_suite`` gave.
    """
    found = evaluated.evaluation
    rows = [
        {
            "id": question.id,
            "question": question_digest(question),
            "prompt": evaluated.prompts[place],
            "reference": question.references[0] if question.references else "",
            "answer": found.answers[question.id],
            "answer_scores": _of(evaluated.answer_scores, question.id),
            "group": question.group,
            "cluster": question.cluster,
            "scores": _of(evaluated.example_scores, question.id),
            "samples": [asdict(row[place]) for row in evaluated.samples],
        }
        for place, question in enumerate(evaluated.questions)
    ]
    # ASCII alone: some readers of JSON Lines take U+2028 in a text for the end of a line.
    lines = [json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n" for row in rows]
    atomic_write_text(Path(folder) / ANSWERS_FILE, "".join(lines))
    summary = {
        "num_examples": found.num_examples,
        "truncated": found.truncated,
        "scores": {metric: asdict(score) for metric, score in found.scores.items()},
        **({"without_room": evaluated.without_room} if evaluated.without_room else {}),
    }
    atomic_write_json(Path(folder) / SCORES_FILE, summary)


def _of(scores: Mapping[str, Mapping[str, float]], example: str) -> dict[str, float]:
    """The scores of one example by metric."""
    return {metric: by_id[example] for metric, by_id in scores.items()}


def _passed(right_SN: np.ndarray, k: int) -> np.ndarray:
    """Whether one of k answers to each question is right, from S answers to it, shape ``[N]``."""
    return np.array(
        [pass_at_k(int(right), len(right_SN), k) for right in (right_SN >= 0.5).sum(axis=0)]
    )


def _score(
    examples_N: np.ndarray,
    seeds: tuple[float, ...],
    questions: Sequence[Question],
    weights: Sequence[float] | None,
) -> Score:
    """The score of one metric from the means over seeds, shape ``[N]``: they repeat an example."""
    labels_N = np.asarray([question.group for question in questions])
    clusters: list[str] | None = [question.cluster for question in questions]
    clusters = clusters if clusters and any(clusters) else None
    if weights is None:
        alike = interval_of_alike(examples_N, clusters)
        found = alike or bootstrap(examples_N, resamples=_RESAMPLES, clusters=clusters)
    else:
        sums = np.stack([examples_N * weights, weights], axis=1)
        found = bootstrap_sums(sums, _ratio, resamples=_RESAMPLES, clusters=clusters)
    weights_N = np.ones(len(examples_N)) if weights is None else np.asarray(weights)
    return replace(
        _alone(found),
        seeds=seeds,
        groups={
            label: float(np.average(examples_N[chosen], weights=weights_N[chosen]))
            for label in sorted({*labels_N.tolist()} - {""})
            for chosen in [labels_N == label]
        },
    )


def _ratio(sums_R2: np.ndarray) -> np.ndarray:
    return sums_R2[:, 0] / sums_R2[:, 1]


def _alone(found: Interval) -> Score:
    """A score without seeds and groups."""
    # One example alone has an interval without width, because JSON has no NaN.
    ends = (found.low, found.high) if found.known else (found.mean, found.mean)
    return Score(mean=found.mean, seeds=(), interval=ends)
