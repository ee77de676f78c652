"""Which answers a report shows: chosen by rule, so that nobody picks the pretty ones."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tutelage.report.comparison import Comparison, Metric, Model

SAMPLE_RULE = (
    "Chosen by rule, not by hand: of each group one example that the main arm got right and one"
    " that it got wrong (or, where scores have more values, one near the top and one near the"
    " bottom); among equals the hash of the id decides."
)
_MAX_GROUPS = 6
_MAX_CHARACTERS = 1200


@dataclass(frozen=True)
class SampleAnswer:
    """One model's answer to a sample.

    Attributes:
        model: its name.
        text: the answer, cut when it is very long.
        score: the first metric of this very answer; None when it was not scored.
        right: True or False when the metric only knows right and wrong, else None.
    """

    model: str
    text: str
    score: float | None
    right: bool | None


@dataclass(frozen=True)
class Sample:
    """One test example with the answers of all models."""

    id: str
    group: str
    prompt: str
    reference: str
    answers: tuple[SampleAnswer, ...]


def choose_samples(comparison: Comparison) -> tuple[Sample, ...]:
    """Two test examples of each group: one that the main arm got right and one it got wrong.

    Where a metric has more values than right and wrong, the two are the examples at the upper and
    lower tenth of the main arm's scores. Among equals the hash of the id decides. Of many groups,
    some are taken, evenly spaced from first to last.

    Returns:
        The samples by group; empty when the main arm has no answers yet.
    """
    main = comparison.of_kind("main")
    if main is None or not comparison.metrics:
        return ()
    metric = comparison.metrics[0]
    # Scores of the answers that are shown, not their means over sampling seeds.
    own = {i: main.evaluated.answer_score(i, metric.name) for i in main.evaluated.answers}
    values = {i: value for i, value in own.items() if value is not None}
    binary = _is_binary(values)
    members: dict[str, list[str]] = {}
    for example in values:
        members.setdefault(str(main.evaluated.answers[example].get("group") or ""), []).append(
            example
        )
    groups = [group for group in ("", *comparison.groups) if group in members]
    if len(groups) > _MAX_GROUPS:
        groups = [
            groups[i] for i in np.linspace(0, len(groups) - 1, _MAX_GROUPS).round().astype(int)
        ]
    chosen = []
    for group in groups:
        ordered = sorted(members[group], key=lambda i: (values[i], _shuffled(i)))
        if binary:
            picks = [
                next((i for i in ordered if values[i] == wanted), None) for wanted in (1.0, 0.0)
            ]
        else:
            picks = [ordered[round(place * (len(ordered) - 1))] for place in (0.9, 0.1)]
        for example in dict.fromkeys(pick for pick in picks if pick is not None):
            chosen.append(_sample(example, comparison, metric, main, binary))
    return tuple(chosen)


def _sample(
    example: str, comparison: Comparison, metric: Metric, main: Model, binary: bool
) -> Sample:
    """The example with every model's answer; the teachers' come right after the main arm's."""
    row = main.evaluated.answers[example]
    order = {"main": 0, "teacher": 1, "weaker": 2, "arm": 3, "before": 4}
    shown = sorted((m for m in comparison.models if m.kind in order), key=lambda m: order[m.kind])
    answers = []
    for model in shown:
        if example in model.evaluated.answers:
            answers.append(_answer(model, example, metric, binary))
    return Sample(
        id=example,
        group=str(row.get("group") or ""),
        prompt=shorten(str(row.get("prompt", ""))),
        reference=shorten(str(row.get("reference", ""))),
        answers=tuple(answers),
    )


def _answer(model: Model, example: str, metric: Metric, binary: bool) -> SampleAnswer:
    score = model.evaluated.answer_score(example, metric.name)
    right = bool(score == 1) if binary and score is not None else None
    text = str(model.evaluated.answers[example].get("answer", ""))
    return SampleAnswer(model.name, shorten(text), score, right)


def _is_binary(values: Mapping[str, float]) -> bool:
    return set(values.values()) <= {0.0, 1.0}


def _shuffled(example: str) -> str:
    """A fixed order that has nothing to do with the order of the file."""
    return hashlib.sha256(example.encode("utf-8")).hexdigest()


def shorten(text: str) -> str:
    """The text, or its beginning with a note of how much was left out."""
    if len(text) <= _MAX_CHARACTERS:
        return text
    return f"{text[:_MAX_CHARACTERS]} [... {len(text) - _MAX_CHARACTERS:,} more characters]"


def sample_view(sample: Sample, comparison: Comparison) -> dict[str, Any]:
    """A sample with each answer's score in words."""
    metric = comparison.metrics[0]
    view = asdict(sample)
    for answer in view["answers"]:
        right = answer["right"]
        answer["tone"] = "" if right is None else ("right" if right else "wrong")
        answer["note"] = answer["tone"]
        if right is None and answer["score"] is not None:
            answer["note"] = f"{metric.words} {metric.text(answer['score'])}"
    return view
