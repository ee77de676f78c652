"""Where the teacher's signal comes from."""

from tutelage.teachers.ensemble import EnsembleTeacher
from tutelage.teachers.ladder import TeacherLadder
from tutelage.teachers.live import LiveTeacher
from tutelage.teachers.signal import TeacherSignal, TeacherTile, teacher_log_probs

__all__ = [
    "EnsembleTeacher",
    "LiveTeacher",
    "TeacherLadder",
    "TeacherSignal",
    "TeacherTile",
    "teacher_log_probs",
]
