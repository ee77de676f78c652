"""Components tried with their options on the smallest input, when a recipe is loaded.

A component checks its options where it uses them, once. Called here on two tokens or three
examples, it refuses before anything is stored or trained what it would refuse after.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from tutelage.errors import ConfigError, DataError
from tutelage.recipe.words import SettingError, below

_LIMITS = {
    "samples": (1, 1000),
    "max_new_tokens": (1, 1_000_000),
    "sampling_temperature": (0.001, 1000.0),
    "k": (1, 1_000_000_000),
}
"""Numbers of difficulties, which need a model to be tried."""


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

    for option in ("alpha", "beta", "end"):
        value = options.get(option, 0.5)
        if not 0.0 <= value <= 1.0 or (option == "beta" and value == 1.0):
            reach = "at least 0 and below 1" if option == "beta" else "between 0 and 1"
            raise SettingError(option, f"must be {reach}, not {value:g}.")
    CONTROLLERS[kind].function(ControllerState(0.5, 0.0, 1.0), 0.9, 0.1, **options)


def _teacher_schedule(kind: str, options: Mapping[str, Any]) -> None:
    import numpy as np

    from tutelage.curriculum import TEACHER_SCHEDULES

    numbers = options.get("shares") or options.get("weights") or [1.0]
    if kind == "ensemble":
        from tutelage.targets.ensemble import mix_teachers

        space = options.get("space", "probability")
        mix_teachers([_distributions()[0]] * len(numbers), numbers, space=space)
    schedule = TEACHER_SCHEDULES[kind].function
    schedule(1, len(numbers), len(numbers), np.arange(3), 0, **options)


def _difficulty(kind: str, options: Mapping[str, Any]) -> None:
    from tutelage.recipe.names import check_component

    for option, (low, high) in _LIMITS.items():
        value = options.get(option, low)
        greedy = option == "sampling_temperature" and value == 0
        if not greedy and not low <= value <= high:
            raise SettingError(option, f"must be between {low:,} and {high:,}, not {value:g}.")
    verifier = options.get("verifier")
    if verifier is not None:
        with below("verifier"):
            check_component("metric", _kind(verifier), _rest(verifier))
    parts = options.get("of")
    if parts is not None and len(parts) < 2:
        raise SettingError("of", "names at least two difficulties, which are fused.")
    for number, part in enumerate(parts or ()):
        with below(f"of.{number}"):
            check_component("difficulty", _kind(part), _rest(part))


def _kind(spec: Mapping[str, Any]) -> str:
    kind = spec.get("kind")
    if not isinstance(kind, str):
        raise SettingError("kind", "is missing: it names the component.")
    return kind


def _rest(spec: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in spec.items() if name != "kind"}


_TRIALS: dict[str, Callable[[str, Mapping[str, Any]], None]] = {
    "divergence": _divergence,
    "target": _target,
    "metric": _metric,
    "controller": _controller,
    "teacher schedule": _teacher_schedule,
    "difficulty": _difficulty,
}
