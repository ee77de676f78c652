"""The table of all engines. A new row is held to the contract test of the family.

An engine is made from an ``AskedModel``; its keyword-only parameters are its options.
"""

from collections.abc import Mapping
from typing import Any

from tutelage.components import Component, bind
from tutelage.generation.engine import AskedModel, Engine


def local(asked: AskedModel) -> Engine:
    """Run the model in this process, with transformers."""
    # Recipes and `tutelage ls` read this table, and need no model for that.
    from tutelage.generation.engines.local import LocalEngine

    return LocalEngine(asked.load(), asked.tokenizer)


ENGINES: dict[str, Component] = {
    "local": Component(local, "in this process, with transformers"),
}


def make_engine(kind: str, options: Mapping[str, Any], asked: AskedModel) -> Engine:
    """An engine that answers with a model.

    Args:
        kind: name of a row.
        options: of the engine.
        asked: the model.

    Raises:
        ConfigError: unknown engine or option.
    """
    return bind(ENGINES, "engine", kind, options)(asked)
