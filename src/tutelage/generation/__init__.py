"""Generation: answers of a model to prompts."""

from tutelage.generation.local import GeneratedAnswer, generate_answers
from tutelage.generation.settings import GenerationSettings

__all__ = [
    "GeneratedAnswer",
    "GenerationSettings",
    "generate_answers",
]
