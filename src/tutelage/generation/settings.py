"""How answers are generated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tutelage.settings import MOST, check_settings, count, setting

Precision = Literal["float32", "bfloat16"]
"""Types of the matrix products; bfloat16 is by autocast, the weights keep their own type."""

COOLEST, HOTTEST = 0.001, 1000.0
"""Temperatures beyond which divided logits are infinite, or all the same."""


def check_temperature(value: float) -> None:
    """Make sure that a temperature is 0, or leaves logits that can still be told apart.

    Raises:
        ValueError: it is between the two.
    """
    if 0.0 < value < COOLEST:
        raise ValueError(f"must be 0 (greedy) or at least {COOLEST}, not {value:g}")


def check_stop_strings(value: Sequence[str]) -> None:
    """Make sure that every stop string has a character.

    Raises:
        ValueError: one is empty, and would end every answer before it begins.
    """
    if isinstance(value, str) or not all(isinstance(one, str) and one for one in value):
        raise ValueError("must be a list of texts of at least one character each")


@dataclass(frozen=True)
class GenerationSettings:
    """How answers are generated.

    Attributes:
        max_new_tokens: longest answer, in tokens.
        max_total_tokens: longest prompt and answer together; None for no such limit.
        sampling_temperature: divides the logits before sampling; 0 takes the likeliest token.
        top_p: sample from the likeliest tokens that together have this probability; 1 is all.
        top_k: sample from so many of the likeliest tokens; 0 is all.
        stop_strings: an answer ends before the first of them that the model writes.
        batch_tokens: bounds a batch: rows times (longest prompt + longest answer).
        precision: type of the matrix products.
        logprobs: whether answers come with the log-probability of each of their tokens: that of the
            model at temperature 1, whatever they are sampled with. Engines may give them unasked.

    Raises:
        ConfigError: a value out of its range.
    """

    max_new_tokens: int = count(256, "Longest answer.")
    max_total_tokens: int | None = count(None, "Longest prompt and answer.")
    sampling_temperature: float = setting(
        0.0, "0 is greedy.", ge=0.0, le=HOTTEST, check=check_temperature
    )
    top_p: float = setting(1.0, "Nucleus sampling.", gt=0, le=1)
    top_k: int = setting(0, "Sample from so many; 0: all.", ge=0, le=MOST)
    stop_strings: tuple[str, ...] = setting(
        (), "An answer ends before any of these.", check=check_stop_strings
    )
    batch_tokens: int = count(16384, "Tokens of a batch when generating.")
    precision: Precision = setting("float32", "Type of the matrix products.")
    logprobs: bool = setting(False, "Also give the log-probability of each token.")

    def __post_init__(self) -> None:
        check_settings(self)
        object.__setattr__(self, "stop_strings", tuple(self.stop_strings))

    def limit(self, prompt_length: int, positions: float) -> int:
        """Most tokens that may follow a prompt; never negative.

        Args:
            prompt_length: its tokens.
            positions: most that the model can take; infinity where it names no limit.
        """
        total = min(self.max_total_tokens or positions, positions)
        return int(max(0, min(self.max_new_tokens, total - prompt_length)))

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken, so that a seed changes nothing."""
        return self.sampling_temperature == 0.0
