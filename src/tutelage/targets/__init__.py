"""What the student is pulled towards: pure functions from two distributions to a third."""

from tutelage.targets.mix import probability_mix
from tutelage.targets.table import TARGETS

__all__ = [
    "TARGETS",
    "probability_mix",
]
