"""Training: the tiled loss and the trainer that carries out a plan."""

from tutelage.training.config import DistillConfig
from tutelage.training.loss import DistillLoss, StepValues
from tutelage.training.trainer import DistillTrainer

__all__ = [
    "DistillConfig",
    "DistillLoss",
    "DistillTrainer",
    "StepValues",
]
