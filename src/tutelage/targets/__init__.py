"""What the student is pulled towards: pure functions of teacher and student distributions."""

from tutelage.targets.ensemble import SPACES, mix_teachers
from tutelage.targets.labels import vouched
from tutelage.targets.mix import logit_mix, probability_mix
from tutelage.targets.table import TARGETS
from tutelage.targets.tokens import TOKEN_CHOICES
from tutelage.targets.truncate import coarsen, with_tail

__all__ = [
    "SPACES",
    "TARGETS",
    "TOKEN_CHOICES",
    "coarsen",
    "logit_mix",
    "mix_teachers",
    "probability_mix",
    "vouched",
    "with_tail",
]
