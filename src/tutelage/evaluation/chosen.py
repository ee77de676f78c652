"""Which option an answer in words chooses."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tutelage.errors import DataError
from tutelage.evaluation.options import LETTERS
from tutelage.evaluation.question import Question
from tutelage.verifiers.choice import settled
from tutelage.verifiers.text import spoken


@dataclass(frozen=True)
class Chosen:
    """Whether an answer chooses the right option: by its letter, else by its text.

    What an answer settles on is read as the verifier ``choice`` reads it. Many answers name no
    letter ("It is carbon dioxide."): then the one option counts whose text stands in the answer,
    and none where there are several.

    Questions have ``extra["right"]``, and ``extra["texts"]`` with the texts of their options.
    """

    def check(self, questions: Sequence[Question]) -> None:
        """Make sure that each question says which option is right."""
        for question in questions:
            if not {"right", "texts"} <= set(question.extra):
                raise DataError(
                    f"Question '{question.id}' does not say which of its options is right, so an"
                    " answer cannot be scored. Mend or remove it."
                )

    def score(
        self,
        questions: Sequence[Question],
        answers: Sequence[str],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[float]:
        """1 for each answer that chooses the right option, else 0."""
        return [
            float(_chosen(question.extra["texts"], spoken(answer)) == question.extra["right"])
            for question, answer in zip(questions, answers, strict=True)
        ]


def _chosen(texts: Sequence[str], answer: str) -> int | None:
    """The place of the option that an answer chooses; None for none."""
    names = ["yes", "no"] if list(texts) == ["yes", "no"] else list(LETTERS[: len(texts)])
    choice = settled(answer)
    if choice in names:
        return names.index(choice)
    said = _words(answer)
    named = [place for place, text in enumerate(texts) if f" {_words(text)} " in f" {said} "]
    # "carbon" is named by whoever says "carbon dioxide", and is not what is meant.
    longest = [
        place
        for place in named
        if not any(
            place != other and f" {_words(texts[place])} " in f" {_words(texts[other])} "
            for other in named
        )
    ]
    return longest[0] if len(longest) == 1 else None


def _words(text: str) -> str:
    """The words of a text in lower case; signs count where there are no letters."""
    return " ".join(re.findall(r"[^\W_]+|[^\w\s.,;:!?*()'\"]", text.lower()))
