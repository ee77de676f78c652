"""The table of all targets: functions ``(teacher_logp, student_logp, student_share)``."""

from tutelage.components import Component
from tutelage.targets.mix import probability_mix

TARGETS: dict[str, Component] = {
    "probability_mix": Component(
        probability_mix,
        "t * student + (1 - t) * teacher, in probabilities",
        "Zhang and Liu 2026, CPD section 3.3",
    ),
}
