"""Generation: answers of a model to prompts, kept as texts and chosen to learn from.

A recipe knows the settings without what models need: names are imported at their first use.
"""

from typing import TYPE_CHECKING

from tutelage.lazy import lazy_names

if TYPE_CHECKING:
    from tutelage.generation.engine import (
        Answer,
        AskedModel,
        Chat,
        Engine,
        Likelihood,
        Prompt,
        ScoringEngine,
    )
    from tutelage.generation.engines.local import LocalEngine
    from tutelage.generation.engines.table import ENGINES, make_engine
    from tutelage.generation.settings import GenerationSettings
    from tutelage.generation.speculative import SpeculativeEngine
    from tutelage.generation.store import TextStore, WrittenText
    from tutelage.generation.supervision import (
        ON_WRONG,
        Chosen,
        ExampleVerifier,
        OnWrong,
        choose_texts,
        example_verifier,
        unwritten,
    )
    from tutelage.generation.writing import Writer

_HOMES = {
    "ENGINES": "engines.table",
    "ON_WRONG": "supervision",
    "Answer": "engine",
    "AskedModel": "engine",
    "Chat": "engine",
    "Chosen": "supervision",
    "Engine": "engine",
    "ExampleVerifier": "supervision",
    "GenerationSettings": "settings",
    "Likelihood": "engine",
    "LocalEngine": "engines.local",
    "OnWrong": "supervision",
    "Prompt": "engine",
    "ScoringEngine": "engine",
    "SpeculativeEngine": "speculative",
    "TextStore": "store",
    "Writer": "writing",
    "WrittenText": "store",
    "choose_texts": "supervision",
    "example_verifier": "supervision",
    "make_engine": "engines.table",
    "unwritten": "supervision",
}

__all__ = [
    "ENGINES",
    "ON_WRONG",
    "Answer",
    "AskedModel",
    "Chat",
    "Chosen",
    "Engine",
    "ExampleVerifier",
    "GenerationSettings",
    "Likelihood",
    "LocalEngine",
    "OnWrong",
    "Prompt",
    "ScoringEngine",
    "SpeculativeEngine",
    "TextStore",
    "Writer",
    "WrittenText",
    "choose_texts",
    "example_verifier",
    "make_engine",
    "unwritten",
]

__getattr__ = lazy_names(__name__, _HOMES)
