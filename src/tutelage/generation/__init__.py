"""Generation: answers of a model to prompts, kept as texts and chosen to learn from.

A recipe knows the settings without what models need: names are imported at their first use.
"""

from typing import TYPE_CHECKING

from tutelage.lazy import lazy_names

if TYPE_CHECKING:
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

_HOMES = {
    "ON_WRONG": "supervision",
    "Chosen": "supervision",
    "GeneratedAnswer": "local",
    "GenerationSettings": "settings",
    "Judge": "supervision",
    "OnWrong": "supervision",
    "TextStore": "store",
    "Writer": "writing",
    "WrittenText": "store",
    "choose_texts": "supervision",
    "generate_answers": "local",
    "make_judge": "supervision",
    "unwritten": "supervision",
}

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

__getattr__ = lazy_names(__name__, _HOMES)
