"""Components tried with their options on the smallest input, when a recipe is loaded.

A component checks its options where it uses them, once. Called here on two tokens or three
examples, it refuses before anything is stored or trained what it would refuse after.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from tutelage.errors import ConfigError, DataError


def try_out(family: str, kind: str, options: Mapping[str, Any]) -> None:
    """Call a component with its options.

    Args:
        family: what its members are called; of a family without a trial nothing is asked.
        kind: the component's name.
        options: names and types of which are right.

    Raises:
        ConfigError: it does not accept them, or gives no finite number with them.
    """
    trial = _TRIALS.get(family)
    if trial is None:
        return
    try:
        trial(kind, options)
    except (ConfigError, DataError):
        raise
    except (ArithmeticError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"The {family} '{kind}' cannot work with these options: {error}."
        ) from error


def _distributions() -> tuple[Any, Any]:
    import torch

    return (
        torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]).log(),
        torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.7, 0.2]]).log(),
    )


def _divergence(kind: str, options: Mapping[str, Any]) -> None:
    from tutelage.divergences import DIVERGENCES

    teacher, student = _distributions()
    student.requires_grad_(True)
    value = DIVERGENCES[kind].function(teacher, student, **options).sum()
    value.backward()
    _finite("divergence", kind, value.item())
    if not value.item() > 0:
        raise ConfigError(
            f"The divergence '{kind}' is {value.item():g} between two different distributions with"
            " these options, so that nothing would be learned. Use numbers of an ordinary size."
        )
    _finite("gradient of the divergence", kind, student.grad.abs().sum().item())


def _target(kind: str, options: Mapping[str, Any]) -> None:
    from tutelage.targets import TARGETS

    value = TARGETS[kind].function(*_distributions(), 0.5, **options).sum()
    _finite("target", kind, value.item())


def _finite(what: str, kind: str, value: float) -> None:
    if not math.isfinite(value):
        raise ConfigError(
            f"The {what} '{kind}' is {value} for two ordinary distributions with these options."
            " Use numbers of an ordinary size."
        )


def _metric(kind: str, options: Mapping[str, Any]) -> None:
    from tutelage.verifiers import VERIFIERS

    try:
        VERIFIERS[kind].function("1", ["1"], **options)
    except DataError:
        return  # it looked at the texts, and so has nothing against its options


def _controller(kind: str, options: Mapping[str, Any]) -> None:
    from tutelage.schedules import CONTROLLERS
    from tutelage.schedules.controllers import ControllerState

    CONTROLLERS[kind].function(ControllerState(0.5, 0.0, 1.0), 0.9, 0.1, **options)


def _text_controller(kind: str, options: Mapping[str, Any]) -> None:
    from tutelage.schedules import TEXT_CONTROLLERS

    TEXT_CONTROLLERS[kind].function(**options)


def _teacher_schedule(kind: str, options: Mapping[str, Any]) -> None:
    import numpy as np

    from tutelage.curriculum import TEACHER_SCHEDULES

    row = TEACHER_SCHEDULES[kind]
    numbers = options.get("shares") or options.get("weights") or [1.0]
    if row.mixes:
        from tutelage.targets.ensemble import mix_teachers

        space = options.get("space", "probability")
        mix_teachers([_distributions()[0]] * len(numbers), numbers, space=space)
    row.function(1, len(numbers), len(numbers), np.arange(3), 0, **options)


def _engine(kind: str, options: Mapping[str, Any]) -> None:
    from tutelage.generation.engines.table import what_decides

    what_decides(kind, options)


_TRIALS: dict[str, Callable[[str, Mapping[str, Any]], None]] = {
    "divergence": _divergence,
    "target": _target,
    "metric": _metric,
    "controller": _controller,
    "text controller": _text_controller,
    "engine": _engine,
    "teacher schedule": _teacher_schedule,
}
