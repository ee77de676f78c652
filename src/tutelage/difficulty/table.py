"""The table of difficulties."""

from tutelage.components import Component
from tutelage.difficulty.scores import student_loss

DIFFICULTIES: dict[str, Component] = {
    "student_loss": Component(
        student_loss,
        "cross-entropy of the untrained student on the answer",
        "Zhang and Liu 2026, CPD section 3.1",
    ),
}
