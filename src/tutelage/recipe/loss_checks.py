"""What parts of a loss need of each other and of the teachers."""

from collections.abc import Collection

from tutelage.recipe.base import Choice
from tutelage.recipe.names import schedule_range, teacher_schedule, token_choice
from tutelage.recipe.sections import Loss
from tutelage.recipe.teaching import Teacher
from tutelage.recipe.words import SettingError


def check_vouching(loss: Loss, stages: int) -> None:
    """A share needs what it is of; whoever asks the teacher about tokens needs one always.

    Args:
        loss: the loss.
        stages: of the curriculum.

    Raises:
        SettingError: one is there without the other.
    """
    for key, share, quiet in (
        ("second_divergence", "second_share", 0),
        ("tokens", "token_share", 1),
    ):
        if (getattr(loss, key) is None) != (getattr(loss, share) == quiet):
            raise SettingError(
                f"loss.{key}",
                f"goes with loss.{share}, a number or a schedule other than {quiet}. Give both"
                " or neither.",
            )
    asking = [] if loss.ce_trust == "all" or loss.is_cross_entropy_alone else ["ce_trust"]
    if loss.tokens is not None and token_choice(loss.tokens.kind).needs_teacher:
        asking.append("tokens")
    if loss.state_weight:
        asking.append("state_weight")
    for name in ("ce_weight", "student_share"):
        if asking and schedule_range(getattr(loss, name), stages)[1] >= 1.0:
            raise SettingError(
                f"loss.{asking[0]}",
                f"asks the teacher about every token, and where {name} is 1 no teacher is"
                f" asked. Keep it below 1, or leave {asking[0]} out.",
            )


def check_states(loss: Loss, teachers: Collection[Teacher], schedule: Choice) -> None:
    """Hidden states are those of one teacher, and not its likeliest tokens.

    Args:
        loss: the loss.
        teachers: from weak to strong.
        schedule: which of them speaks when.

    Raises:
        SettingError: they have no states that could be matched.
    """
    if not loss.state_weight:
        return
    speaks = teacher_schedule(schedule.kind)
    if len(teachers) > 1 and speaks.alone is None and not speaks.mixes:
        raise SettingError(
            "loss.state_weight",
            "matches the hidden states of one teacher, and the ladder has several, one after"
            " another. Mix them (teacher_schedule: {kind: ensemble}), or set it to 0.",
        )
    if any(teacher.signal == "topk" for teacher in teachers):
        raise SettingError(
            "loss.state_weight",
            "matches hidden states, and signal: topk stores the likeliest tokens alone. Use"
            " signal: hidden, or set it to 0.",
        )


def check_stored_temperature(loss: Loss, teachers: Collection[Teacher], stages: int) -> None:
    """A teacher that is stored as its likeliest tokens is not known at temperatures below 1.

    Said here, because otherwise the store would be filled first.

    Args:
        loss: the loss.
        teachers: from weak to strong.
        stages: of the curriculum.

    Raises:
        SettingError: the temperature goes below 1.
    """
    if loss.is_cross_entropy_alone or all(teacher.signal != "topk" for teacher in teachers):
        return
    least = schedule_range(loss.distill_temperature, stages)[0]
    if least < 1.0:
        raise SettingError(
            "loss.distill_temperature",
            f"goes down to {least:g}, and signal: topk knows a teacher at temperatures from 1 on"
            " alone. Keep it at 1 or above, or use signal: hidden.",
        )
