"""Divergences between next-token distributions: pure functions and one table of them.

Every function takes ``(teacher_logp, student_logp)`` of shape ``[..., V]`` (log-probabilities,
natural logarithm) and gives nats of shape ``[...]``, 0 exactly when the two are equal. No mask, no
temperature, no reduction and no model inside: those belong to the loss.
"""

from tutelage.divergences.kl import forward_kl, reverse_kl
from tutelage.divergences.table import DIVERGENCES

__all__ = [
    "DIVERGENCES",
    "forward_kl",
    "reverse_kl",
]
