"""What a program may use, and what became of it."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tutelage.settings import check_settings, setting

_STEPS = {
    "nothing": "gave {detail}",
    "raised": "raised {detail}",
    "wrong value": "wrong value",
    "broken checks": "the checks do not compile: {detail}",
}


@dataclass(frozen=True)
class Limits:
    """What a program may use; its checks, which run in a process of their own, may use as much.

    Raises:
        ConfigError: a limit is out of bounds.
    """

    cpu_seconds: float = setting(10.0, "Processor time, in seconds.", gt=0, le=86_400)
    seconds: float = setting(40.0, "Time by the clock, in seconds.", gt=0, le=86_400)
    memory: int = setting(1 << 30, "Address space, in bytes.", ge=1 << 27, le=1 << 40)
    files: int = setting(16 << 20, "Bytes in files of its own folder.", ge=1 << 12, le=1 << 34)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        passed: all checks held.
        why: in words: "passed", "wrong value", "time limit", "memory", "raised ValueError: ...".
            What a program raised is its own text: take care where it is printed.
        seconds: by the clock, from the request to the end of all processes.
    """

    passed: bool
    why: str
    seconds: float


def outcome_of(found: Mapping[str, Any], verdict: Mapping[str, Any], limits: Limits) -> Outcome:
    """An outcome from what the sandbox reports.

    Args:
        found: how both processes ended.
        verdict: of the checks; empty when they gave none.
        limits: that held.
    """
    if verdict.get("passed") is True and not found["ended"]:
        return Outcome(True, "passed", found["seconds"])
    return Outcome(False, _why(found, verdict, limits), found["seconds"])


def _why(found: Mapping[str, Any], verdict: Mapping[str, Any], limits: Limits) -> str:
    if found["ended"]:
        return {"time": "time limit", "files": "too much written"}[found["ended"]]
    why, detail = verdict.get("why", ""), str(verdict.get("detail", ""))
    if why in ("", "ended"):
        role = "program" if why else "checks"
        ended = _ended(found[role], limits)
        return ended if why else f"the checks could not use what it gave ({ended})"
    if why == "raised" and detail.startswith("MemoryError"):
        return "memory"
    return _STEPS[why].format(detail=detail)


def _ended(status: Mapping[str, Any], limits: Limits) -> str:
    """How a process ended that should have gone on."""
    code = status["code"]
    if code in (-signal.SIGKILL, -signal.SIGXCPU) and status["cpu"] >= limits.cpu_seconds * 0.5:
        return "time limit"
    if code == -signal.SIGKILL:  # ours, after it was given up
        return "stopped answering"
    if code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    return f"ended by itself (exit code {code})"
