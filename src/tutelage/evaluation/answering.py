"""The answers of a model to questions, in pieces that a kill cannot halve."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutelage.evaluation.pieces import Kept, pieces_of_answers
from tutelage.evaluation.question import Question
from tutelage.evaluation.suite import Suite
from tutelage.generation import Answer, Engine, Prompt

_KEEP_EVERY = 0.5
"""Seconds for which answers that have come may wait until they are on the disk."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Sample:
    """One answer to one question.

    Attributes:
        seed: what it was drawn with.
        answer: the text.
        truncated: whether the length limit ended it.
        scores: by metric.
    """

    seed: int
    answer: str
    truncated: bool
    scores: Mapping[str, float] = field(default_factory=dict)


def generate(
    engine: Engine,
    suite: Suite,
    questions: Sequence[Question],
    kept: Kept | None = None,
    progress: Progress | None = None,
) -> list[list[Sample]]:
    """The answers to all questions for each seed of a suite.

    An answer depends on the model, its seed, its prompt and, to rounding, on what shares its batch.
    Which questions are asked together depends on the suite and its questions alone. So a second run
    that finds some of the answers kept gives the same as one that was never cut off.

    Args:
        engine: answers with the model that is evaluated.
        suite: how it answers.
        questions: all of them are asked.
        kept: answers by id and number of the seed: what is there is not asked again, and what is
            new is added as soon as it is final.
        progress: called with (answers there, answers in all), over all seeds.

    Returns:
        Samples without scores, shape ``[S, N]``.
    """
    seeds = suite.asked_seeds
    prompts = [suite.prompt_of(question, engine) for question in questions]
    samples: dict[tuple[int, int], Sample] = {}
    for piece in pieces_of_answers(prompts, len(seeds), suite):
        missing: list[tuple[int, int]] = []
        for place, number in piece:
            found = None if kept is None else kept.find((questions[place].id, number))
            if found is not None:
                read = Sample(seeds[number], found["text"], found["truncated"])
                samples[place, number] = read
            else:
                missing.append((place, number))
        with _Keeper(kept) as keeper:
            asked = [(questions[place].id, number, seeds[number]) for place, number in missing]
            answers = _ask(
                engine,
                suite,
                [prompts[place] for place, _ in missing],
                asked,
                keeper,
                _shifted(progress, len(samples), len(seeds) * len(questions)),
            )
        for (place, number), answer in zip(missing, answers, strict=True):
            samples[place, number] = Sample(seeds[number], answer.text, answer.truncated)
    return [
        [samples[place, number] for place in range(len(questions))] for number in range(len(seeds))
    ]


Asked = tuple[str, int, int]
"""Id of the question, number of the seed, and the seed."""


def _ask(
    engine: Engine,
    suite: Suite,
    prompts: Sequence[Prompt],
    asked: Sequence[Asked],
    keeper: "_Keeper",
    report: Progress,
) -> list[Answer]:
    """The answers to some prompts, each kept as soon as it is final."""
    report(0, len(prompts))
    if not prompts:
        return []
    return engine.answer(
        prompts,
        suite.generation_of(prompts),
        seed=[seed for _, _, seed in asked],
        progress=report,
        on_answer=lambda place, answer: keeper.add(asked[place], answer),
    )


def _shifted(progress: Progress | None, before: int, total: int) -> Progress:
    """Tell how far all is, when told how far one piece is."""

    def report(done: int, _: int) -> None:
        if progress is not None:
            progress(before + done, total)

    return report


class _Keeper:
    """Puts answers into a store, those that come close together at once; and all when it ends."""

    def __init__(self, kept: Kept | None) -> None:
        self._kept = kept
        self._waiting: list[dict[str, Any]] = []
        self._last = time.monotonic()

    def __enter__(self) -> "_Keeper":
        return self

    def __exit__(self, *exception: object) -> None:
        self._flush()

    def add(self, asked: Asked, answer: Answer) -> None:
        """Take an answer."""
        example, number, seed = asked
        self._waiting.append(
            {
                "id": example,
                "sample": number,
                "seed": seed,
                "text": answer.text,
                "truncated": answer.truncated,
            }
        )
        if time.monotonic() - self._last > _KEEP_EVERY:
            self._flush()

    def _flush(self) -> None:
        if self._kept is not None and self._waiting:
            self._kept.add(self._waiting)
        self._waiting = []
        self._last = time.monotonic()
