"""Training: the tiled loss and the trainer that carries out a plan.

A recipe knows the settings without what training needs: names are imported at their first use.
"""

from typing import TYPE_CHECKING

from tutelage.lazy import lazy_names

if TYPE_CHECKING:
    from tutelage.training.config import DistillConfig
    from tutelage.training.loss import DistillLoss, StepValues
    from tutelage.training.settings import DistillSettings
    from tutelage.training.trainer import DistillTrainer
    from tutelage.training.vocabulary import VocabularyParallelLoss, VocabularySlice

_HOMES = {
    "DistillConfig": "config",
    "DistillLoss": "loss",
    "DistillSettings": "settings",
    "DistillTrainer": "trainer",
    "StepValues": "loss",
    "VocabularyParallelLoss": "vocabulary",
    "VocabularySlice": "vocabulary",
}

__all__ = [
    "DistillConfig",
    "DistillLoss",
    "DistillSettings",
    "DistillTrainer",
    "StepValues",
    "VocabularyParallelLoss",
    "VocabularySlice",
]

__getattr__ = lazy_names(__name__, _HOMES)
