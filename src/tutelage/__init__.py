"""Tutelage distils large language models into small ones with a curriculum.

The parts can be used by themselves; nothing heavy is imported before it is asked for::

    import tutelage
    tutelage.run("quickstart")                      # recipe -> student and report
    tutelage.show_plan("quickstart")                # what it would do; profile, cache: parts of it

    from tutelage.divergences import DIVERGENCES    # pure functions of tensors
    from tutelage.curriculum import compile_plan    # difficulty -> plan
    from tutelage import DistillConfig, DistillTrainer
    from tutelage import follow_plan                # a plan inside another trainer
"""

import os
import sys
from typing import TYPE_CHECKING

from tutelage.lazy import lazy_names

# OpenMP's threads spin while they wait. On a machine that does anything else besides, that made
# training of small models up to ten times slower; it must be said before torch is loaded.
TORCH_CAME_FIRST = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ
"""Whether it was too late for that; a run says so."""
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Large tensors on huge pages, where the kernel gives them to who asks: a training step on a
# processor is up to a tenth faster (benchmarks/huge_pages.py), and takes no more memory. torch
# reads it at its first one.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from tutelage.evaluation import evaluate
    from tutelage.pipeline import cache, profile, run, show_plan
    from tutelage.training import DistillConfig, DistillTrainer
    from tutelage.training.plugin import follow_plan

__version__ = "0.2.0"

__all__ = [
    "DistillConfig",
    "DistillTrainer",
    "cache",
    "evaluate",
    "follow_plan",
    "profile",
    "run",
    "show_plan",
]

_HOMES = {
    "DistillConfig": "training",
    "DistillTrainer": "training",
    "cache": "pipeline",
    "evaluate": "evaluation",
    "follow_plan": "training.plugin",
    "profile": "pipeline",
    "run": "pipeline",
    "show_plan": "pipeline",
}


__getattr__ = lazy_names(__name__, _HOMES)


def __dir__() -> list[str]:
    """The public names, those that are not imported yet too, and not what this file imports."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
