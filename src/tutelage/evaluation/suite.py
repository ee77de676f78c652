"""Evaluate a model: generate an answer to every prompt, score it, and keep what was found."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.components import bind
from tutelage.errors import ConfigError, DataError
from tutelage.files import atomic_write_json, atomic_write_text
from tutelage.generation import Answer, Engine, GenerationSettings
from tutelage.statistics import bootstrap
from tutelage.types import Evaluation, Score, check_unique
from tutelage.verifiers import VERIFIERS, Verifier

SCORES_FILE, ANSWERS_FILE = "scores.json", "answers.jsonl"

_RESAMPLES = 1000
"""Behind every interval in a `scores.json` so far: more would move the ends that were published."""


@dataclass(frozen=True)
class Suite:
    """What is asked of a model, how it answers, and how its answers become scores.

    Attributes:
        name: what its results are called.
        split: which rows of the data are asked.
        metrics: verifiers by the name of the score that each gives, at least one; the first leads.
        generation: how answers are generated.
        seeds: sampling seeds, at least one; greedy answers are made once, for the first.
        limit: ask so many of the rows, the first ones; None for all.

    Raises:
        ConfigError: no metric or no seed.
    """

    name: str
    metrics: Mapping[str, Verifier]
    split: str = "test"
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    seeds: tuple[int, ...] = (10,)
    limit: int | None = None

    def __post_init__(self) -> None:
        if not self.metrics or not self.seeds:
            raise ConfigError(
                "An evaluation needs at least one metric and one seed, got"
                f" metrics={list(self.metrics)} and seeds={list(self.seeds)}."
                " Name a metric, as in {rouge_l: {}}, and a seed, as in [10]."
            )

    def rows_of(self, rows: Any) -> Any:
        """The rows that are asked, of all rows of the split."""
        return rows if self.limit is None else rows.select(range(min(self.limit, len(rows))))


def bound_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Verifier]:
    """The verifiers that a recipe names as metrics.

    Args:
        metrics: names of verifiers with their options.

    Raises:
        ConfigError: an unknown metric or option.
    """
    return {name: bind(VERIFIERS, "metric", name, options) for name, options in metrics.items()}


@dataclass(frozen=True)
class Evaluated:
    """An evaluation with the score of every example, by which models are compared.

    Attributes:
        evaluation: means, intervals, groups and answers.
        example_scores: metric name -> example id -> score, the mean over seeds.
        answer_scores: the same of the first seed alone, whose answers are kept.
    """

    evaluation: Evaluation
    example_scores: Mapping[str, Mapping[str, float]]
    answer_scores: Mapping[str, Mapping[str, float]]

    @property
    def scores(self) -> Mapping[str, Score]:
        """Metric name to its score over all examples."""
        return self.evaluation.scores


def evaluate_answers(
    engine: Engine,
    dataset: Any,
    suite: Suite,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """Generate an answer to every prompt for every seed, and score the answers.

    Args:
        engine: answers with the model that is evaluated.
        dataset: all of these rows are asked. They have ``id``, ``input_ids``, ``num_prompt_tokens``
            (the prompt is ``input_ids[:num_prompt_tokens]``), ``references`` and ``group`` (empty
            for none).
        suite: metrics, generation, seeds.
        progress: called with (answers done, answers in all), over all seeds.

    Raises:
        DataError: no rows, ids that repeat, or references that a metric cannot use. Found before
            anything is generated.
    """
    ids = list(dataset["id"])
    references = list(dataset["references"])
    if not ids:
        raise DataError(
            "The evaluation data has no rows, so there is nothing to answer. Check the file and the"
            " length limits of the data, which may have dropped all of them."
        )
    check_unique(ids)
    _check_references(suite.metrics, ids, references)
    prompts = [
        tokens[:length]
        for tokens, length in zip(dataset["input_ids"], dataset["num_prompt_tokens"], strict=True)
    ]
    answers_SN = _answers_by_seed(engine, prompts, suite, progress)
    arrays = {
        name: np.array(
            [
                [
                    verify(answer.text, accepted)
                    for answer, accepted in zip(row, references, strict=True)
                ]
                for row in answers_SN
            ]
        )
        for name, verify in suite.metrics.items()
    }
    groups = list(dataset["group"])
    evaluation = Evaluation(
        num_examples=len(ids),
        scores={name: _score(array, groups) for name, array in arrays.items()},
        answers={i: answer.text for i, answer in zip(ids, answers_SN[0], strict=True)},
        truncated=float(np.mean([[answer.truncated for answer in row] for row in answers_SN])),
    )
    return Evaluated(
        evaluation,
        example_scores=_by_example(ids, {name: a.mean(axis=0) for name, a in arrays.items()}),
        answer_scores=_by_example(ids, {name: a[0] for name, a in arrays.items()}),
    )


def _by_example(
    ids: Sequence[str], arrays: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Metric name to example id to score, from arrays of shape ``[N]``."""
    return {
        name: dict(zip(ids, map(float, array_N), strict=True)) for name, array_N in arrays.items()
    }


def save_evaluation(folder: str | Path, evaluation: Evaluated, dataset: Any) -> None:
    """Write an evaluation into a folder, each file wholly or not at all.

    ``answers.jsonl`` has a row for each example: ``id``, ``prompt``, ``reference`` (the first),
    ``answer`` and ``answer_scores`` (of the first seed), ``group`` and ``scores`` (means over
    seeds). ``scores.json`` has ``num_examples``, ``truncated`` and ``scores`` by metric, and is
    written last.

    Args:
        folder: where to write; made when it is not there.
        evaluation: what ``evaluate_answers`` gave.
        dataset: the rows that were evaluated, with ``prompt`` too.
    """
    found = evaluation.evaluation
    columns = (dataset[name] for name in ("id", "prompt", "references", "group"))
    rows = [
        {
            "id": example,
            "prompt": prompt,
            "reference": references[0],
            "answer": found.answers[example],
            "answer_scores": {
                metric: scores[example] for metric, scores in evaluation.answer_scores.items()
            },
            "group": group,
            "scores": {
                metric: scores[example] for metric, scores in evaluation.example_scores.items()
            },
        }
        for example, prompt, references, group in zip(*columns, strict=True)
    ]
    # ASCII alone: some readers of JSON Lines take U+2028 in a text for the end of a line.
    lines = [json.dumps(row, ensure_ascii=True, allow_nan=False) + "\n" for row in rows]
    atomic_write_text(Path(folder) / ANSWERS_FILE, "".join(lines))
    summary = {
        "num_examples": found.num_examples,
        "truncated": found.truncated,
        "scores": {metric: asdict(score) for metric, score in found.scores.items()},
    }
    atomic_write_json(Path(folder) / SCORES_FILE, summary)


def _check_references(
    verifiers: Mapping[str, Verifier], ids: Sequence[str], references: Sequence[Sequence[str]]
) -> None:
    """Let every verifier see every reference, so that a bad one is found before generation."""
    for name, verify in verifiers.items():
        for example, accepted in zip(ids, references, strict=True):
            try:
                verify("", accepted)
            except DataError as error:
                raise DataError(f"Metric '{name}', example '{example}': {error}") from error


def _answers_by_seed(
    engine: Engine,
    prompts: Sequence[Sequence[int]],
    suite: Suite,
    progress: Callable[[int, int], None] | None,
) -> list[list[Answer]]:
    """The answers to all prompts for each seed; for the first alone when they are greedy."""
    seeds = suite.seeds[:1] if suite.generation.greedy else suite.seeds
    total = len(seeds) * len(prompts)
    answers: list[list[Answer]] = []

    def report(done: int, _: int) -> None:
        if progress is not None:
            progress(len(answers) * len(prompts) + done, total)

    for seed in seeds:
        answers.append(engine.answer(prompts, suite.generation, seed=seed, progress=report))
    return answers


def _score(scores_SN: np.ndarray, groups: Sequence[str]) -> Score:
    """The score of one metric from those of every seed and example, shape ``[S, N]``."""
    examples_N = scores_SN.mean(axis=0)
    labels_N = np.asarray(groups)
    # Seeds are averaged first: they repeat an example, they do not add one.
    found = bootstrap(examples_N, resamples=_RESAMPLES)
    return Score(
        mean=found.mean,
        seeds=tuple(scores_SN.mean(axis=1).tolist()),
        # One example alone has an interval without width, because JSON has no NaN.
        interval=(found.low, found.high) if found.known else (found.mean, found.mean),
        groups={
            label: float(examples_N[labels_N == label].mean())
            for label in sorted(set(groups) - {""})
        },
    )
