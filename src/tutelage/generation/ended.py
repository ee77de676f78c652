"""Rows that have ended become answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from tutelage.generation.engine import Answer
from tutelage.generation.rows import Row
from tutelage.generation.settings import GenerationSettings
from tutelage.generation.stopping import Stops

OnEnd = Callable[[Row, Answer], Answer]


class Way(Protocol):
    """A way of continuing rows."""

    def finished(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        """Continue rows; they come back as they end, some at a time."""
        ...


def with_logprobs(row: Row, answer: Answer) -> Answer:
    """An answer with what was noted of its tokens: how likely each of them was."""
    return replace(answer, logprobs=tuple(row.noted(answer.num_tokens).tolist()))


def read_answers(
    way: Way,
    rows: Sequence[Row],
    seeds: Sequence[int],
    stops: Stops,
    settings: GenerationSettings,
    *,
    on_end: OnEnd | None,
    progress: Callable[[int, int], None] | None,
    on_answer: Callable[[int, Answer], None] | None,
    check: Callable[[], None] = lambda: None,
) -> list[Answer]:
    """Continue rows, and read the answers to all prompts, in order.

    Args:
        way: continues them.
        rows: of the prompts that have room for an answer; the others have an empty one.
        seeds: of all prompts.
        stops: what ends a row.
        settings: whether log-probabilities are wanted.
        on_end: completes an answer with what was noted in its row; None where nothing was.
        progress: called with (prompts done, prompts in all).
        on_answer: called with each prompt's position and answer when all have ended: which batches
            there are, and with them the rounding of every answer, depends on all prompts.
        check: raises where what was chosen means nothing; called before anybody gets an answer.
    """
    none = () if settings.logprobs else None
    answers = [Answer("", 0, "length", seed=seed, logprobs=none) for seed in seeds]
    done = len(seeds) - len(rows)
    for ended in way.finished(rows):
        for row in ended:
            read = stops.read(row.prompt, row.tokens[: row.limit])
            whole = replace(read, seed=seeds[row.place])
            answers[row.place] = whole if on_end is None else on_end(row, whole)
        done += len(ended)
        if progress is not None:
            progress(done, len(seeds))
    check()
    if on_answer is not None:
        for position, answer in enumerate(answers):
            on_answer(position, answer)
    return answers
