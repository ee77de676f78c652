"""How answers are generated."""

from dataclasses import dataclass

from tutelage.errors import ConfigError, unknown_name

PRECISIONS = ("float32", "bfloat16")
"""Types of the matrix products; bfloat16 is by autocast, the weights keep their own type."""

COOLEST, HOTTEST = 0.001, 1000.0
"""Temperatures beyond which divided logits are infinite, or all the same."""


@dataclass(frozen=True)
class GenerationSettings:
    """How answers are generated.

    Attributes:
        max_new_tokens: longest answer, in tokens.
        max_total_tokens: longest prompt and answer together; None for no such limit.
        sampling_temperature: divides the logits before sampling; 0 takes the likeliest token.
        top_p: sample from the likeliest tokens that together have this probability; 1 is all.
        top_k: sample from so many of the likeliest tokens; 0 is all.
        batch_tokens: bounds a batch: rows times (longest prompt + longest answer).
        precision: one of ``PRECISIONS``.

    Raises:
        ConfigError: a value out of its range.
    """

    max_new_tokens: int = 256
    max_total_tokens: int | None = None
    sampling_temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    batch_tokens: int = 16384
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "max_total_tokens", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"`{name}` is {value}, which leaves no room. Use 1 or more.")
        low, high = COOLEST, HOTTEST
        if self.sampling_temperature != 0.0 and not low <= self.sampling_temperature <= high:
            raise ConfigError(
                f"`sampling_temperature` is {self.sampling_temperature}, but it divides logits."
                f" Use a number from {low} to {high:g}, or 0 for greedy answers."
            )
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigError(
                f"`top_p` is {self.top_p}, but it is a probability. Use more than 0 and at most 1."
            )
        if self.top_k < 0:
            raise ConfigError(f"`top_k` is {self.top_k}, but it is a count. Use 0 for all tokens.")
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken, so that a seed changes nothing."""
        return self.sampling_temperature == 0.0
