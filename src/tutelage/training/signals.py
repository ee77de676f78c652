"""From what a caller gives as its teachers to one signal for each name in a plan."""

from collections.abc import Callable, Mapping

from torch import nn

from tutelage.errors import ConfigError
from tutelage.teachers import TeacherLadder, TeacherSignal
from tutelage.types import Plan

Teacher = nn.Module | TeacherSignal


def signals_of(
    teacher: Teacher | Mapping[str, Teacher] | None,
    plan: Plan,
    live: Callable[[nn.Module], TeacherSignal],
) -> Mapping[str, TeacherSignal]:
    """A signal for each teacher of a plan; a ladder is used as it is, as it loads them lazily.

    Args:
        teacher: a model, a signal, or one of them for each name; None when there is none.
        plan: says which names there are.
        live: makes a signal of a model.

    Raises:
        ConfigError: the plan needs a teacher that was not given.
    """
    if teacher is None:
        if plan.has_teacher_signal():
            raise ConfigError(
                "The plan distils from a teacher and none was given. Pass `teacher=`, or set"
                " ce_weight to 1 for plain fine-tuning."
            )
        return {}
    if isinstance(teacher, Mapping):
        if missing := set(plan.teachers) - set(teacher):
            raise ConfigError(
                f"The plan names the teacher '{min(missing)}', and the trainer was given"
                f" {', '.join(map(repr, teacher))}. Pass one for each of plan.teachers."
            )
        if isinstance(teacher, TeacherLadder):
            return teacher
        return {name: _signal(one, live) for name, one in teacher.items()}
    return dict.fromkeys(plan.teachers, _signal(teacher, live))


def _signal(teacher: Teacher, live: Callable[[nn.Module], TeacherSignal]) -> TeacherSignal:
    return live(teacher) if isinstance(teacher, nn.Module) else teacher
