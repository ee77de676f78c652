"""Tutelage distils large language models into small ones with a curriculum.

The parts can be used by themselves; nothing heavy is imported before it is asked for::

    import tutelage
    tutelage.run("quickstart")                      # recipe -> student and report

    from tutelage.divergences import DIVERGENCES    # pure functions of tensors
    from tutelage.curriculum import compile_plan    # difficulty -> plan
    from tutelage import DistillConfig, DistillTrainer
    from tutelage import follow_plan                # a plan inside another trainer
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tutelage.pipeline import run
    from tutelage.training import DistillConfig, DistillTrainer
    from tutelage.training.plugin import follow_plan

__version__ = "0.1.0"

__all__ = ["DistillConfig", "DistillTrainer", "follow_plan", "run"]

_HOMES = {
    "DistillConfig": "tutelage.training",
    "DistillTrainer": "tutelage.training",
    "follow_plan": "tutelage.training.plugin",
    "run": "tutelage.pipeline",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that ``import tutelage`` stays fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tutelage' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
