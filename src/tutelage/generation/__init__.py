"""Generation: answers of a model to prompts, kept as texts and chosen to learn from."""

from tutelage.generation.local import GeneratedAnswer, generate_answers
from tutelage.generation.settings import GenerationSettings
from tutelage.generation.store import TextStore, WrittenText
from tutelage.generation.supervision import (
    ON_WRONG,
    Chosen,
    Judge,
    OnWrong,
    choose_texts,
    make_judge,
    unwritten,
)
from tutelage.generation.writing import Writer

__all__ = [
    "ON_WRONG",
    "Chosen",
    "GeneratedAnswer",
    "GenerationSettings",
    "Judge",
    "OnWrong",
    "TextStore",
    "Writer",
    "WrittenText",
    "choose_texts",
    "generate_answers",
    "make_judge",
    "unwritten",
]
