"""Divergences between next-token distributions: pure functions and one table of them.

Every function takes ``(teacher_logp, student_logp)`` of shape ``[..., V]`` (log-probabilities,
natural logarithm) and gives nats of shape ``[...]``, 0 exactly when the two are equal. No mask, no
temperature, no reduction and no model inside: those belong to the loss.
"""

from tutelage.divergences.alpha_beta import alpha_beta
from tutelage.divergences.bounded import hellinger, tvd
from tutelage.divergences.kl import forward_kl, reverse_kl, symmetric_kl
from tutelage.divergences.mixtures import bdl, jsd, skl, srkl
from tutelage.divergences.table import DIVERGENCES

__all__ = [
    "DIVERGENCES",
    "alpha_beta",
    "bdl",
    "forward_kl",
    "hellinger",
    "jsd",
    "reverse_kl",
    "skl",
    "srkl",
    "symmetric_kl",
    "tvd",
]
