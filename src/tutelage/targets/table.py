"""The table of all targets: functions ``(teacher_logp, student_logp, student_share)``."""

from tutelage.components import Component
from tutelage.targets.mix import logit_mix, probability_mix

TARGETS: dict[str, Component] = {
    "probability_mix": Component(
        probability_mix,
        "t * student + (1 - t) * teacher, in probabilities (CPD)",
        "Zhang and Liu 2026, CPD section 3.3",
    ),
    "logit_mix": Component(
        logit_mix,
        "t * student + (1 - t) * teacher, in logits, the student a constant (TAID)",
        "Shing et al. 2025, arXiv:2501.16937",
    ),
}
"""Targets by name, as ``kind`` in a recipe; `tutelage ls targets` prints them."""
