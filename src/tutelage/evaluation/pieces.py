"""What an evaluation asks at once, and what it keeps of it: pieces that a kill cannot halve."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tutelage.evaluation.question import Question
from tutelage.evaluation.suite import Suite
from tutelage.generation import Chat, Prompt
from tutelage.growing import GrowingRows, RowKind

_BATCHES = 4
"""About so many batches of an engine are asked at once: enough that sorting by length pays."""

_LETTERS_A_TOKEN = 3
"""To tell how long a text is before anybody has tokenized it."""

Kept = GrowingRows[dict[str, Any]]
"""What was found of questions, by ``id`` and number of the sample."""


def _row(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not {"id", "sample"} <= value.keys():
        raise TypeError("a row has no id and sample")
    return value


_KIND = RowKind("answers", lambda row: (row["id"], row["sample"]), dict, _row)


def keep_in(folder: str | Path, inputs: Mapping[str, Any]) -> Kept:
    """A folder that keeps what an evaluation finds; see ``GrowingRows``.

    Args:
        folder: made when it is not there.
        inputs: what decides the answers.

    Raises:
        RunFolderError: there is something of other inputs, or it is damaged.
    """
    return GrowingRows(folder, inputs, _KIND)


def pieces_of_answers(
    prompts: Sequence[Prompt], num_seeds: int, suite: Suite
) -> Iterator[list[tuple[int, int]]]:
    """Which answers (position of the question, number of the seed) are asked for at once.

    The longest prompts come first, so that a time left that is read off the first ones is not too
    short.
    """
    sizes = [_size(prompt) for prompt in prompts]
    budget = _BATCHES * suite.generation.batch_tokens
    piece: list[tuple[int, int]] = []
    width = 0
    for place in _longest_first(sizes):
        for sample in range(num_seeds):
            width = width or sizes[place] + suite.generation.max_new_tokens
            if piece and (len(piece) + 1) * width > budget:
                yield piece
                piece, width = [], sizes[place] + suite.generation.max_new_tokens
            piece.append((place, sample))
    if piece:
        yield piece


def pieces_to_measure(questions: Sequence[Question], suite: Suite) -> Iterator[list[int]]:
    """Which questions are measured at once: their positions, the longest first."""
    sizes = [_size_read(question) for question in questions]
    budget = _BATCHES * suite.generation.batch_tokens
    piece: list[int] = []
    total = 0
    for place in _longest_first(sizes):
        if piece and total + sizes[place] > budget:
            yield piece
            piece, total = [], 0
        piece.append(place)
        total += sizes[place]
    if piece:
        yield piece


def worth_keeping(suite: Suite, questions: Sequence[Question]) -> bool:
    """Whether there is more than one piece, so that a kill could cost what is there."""
    pieces: Iterator[Any]
    if suite.measure is None:
        prompts = [question.prompt for question in questions]
        pieces = pieces_of_answers(prompts, len(suite.asked_seeds), suite)
    elif suite.measure.whole:
        return False
    else:
        pieces = pieces_to_measure(questions, suite)
    return next(pieces, None) is not None and next(pieces, None) is not None


def _longest_first(sizes: Sequence[int]) -> list[int]:
    return sorted(range(len(sizes)), key=lambda place: -sizes[place])


def _size_read(question: Question) -> int:
    """How many tokens are read of a question with each of its options, or with its answer."""
    texts = question.options or question.references[:1]
    each = [_size(question.prompt) + _size(text) for text in texts]
    return sum(each) or _size(question.prompt)


def _size(prompt: Prompt) -> int:
    """How many tokens a prompt has, more or less."""
    if isinstance(prompt, Chat):
        return sum(len(turn.content) for turn in prompt.messages) // _LETTERS_A_TOKEN
    return len(prompt) // _LETTERS_A_TOKEN if isinstance(prompt, str) else len(prompt)
