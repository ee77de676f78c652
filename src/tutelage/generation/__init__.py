"""Generation: answers of a model to prompts."""

from tutelage.generation.local import GeneratedAnswer, generate_answers
from tutelage.generation.settings import GenerationSettings
from tutelage.generation.store import TextStore, WrittenText
from tutelage.generation.writing import Chosen, Writer, choose_texts

__all__ = [
    "Chosen",
    "GeneratedAnswer",
    "GenerationSettings",
    "TextStore",
    "Writer",
    "WrittenText",
    "choose_texts",
    "generate_answers",
]
