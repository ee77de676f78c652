"""Controllers of whose text a step learns from. Pure: (state, observation) -> state.

A step that may be on the student's own text is so with a chance that answers to the validation
loss: then it learns from fresh text, or from older text that was kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from tutelage.components import Component, Limits
from tutelage.errors import ConfigError

Key = tuple[int, int]
"""What names a kept text: the step (from 0) that wrote it, and its place in that step."""

Source = Literal["fresh", "replayed", "data"]


@dataclass(frozen=True)
class TextState:
    """What a controller of the text remembers.

    Attributes:
        chance: that a step is on the student's own text, in [0, 1].
        previous: the validation loss that the next one is compared with, in nats per token; None
            before the first.
        kept: the texts that may be replayed, the oldest first.
    """

    chance: float
    previous: float | None = None
    kept: tuple[Key, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, from which :meth:`of` makes exactly this state."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "TextState":
        """The state that gave these values."""
        kept = tuple((int(step), int(place)) for step, place in values["kept"])
        return cls(values["chance"], values["previous"], kept)


@dataclass(frozen=True, kw_only=True)
class Distillm:
    r"""DistiLLM's adaptive scheduler: own text only where the student has begun to overfit.

    With the chance :math:`\phi`, progress :math:`x = s / S` in step s of S (from 1) and
    :math:`r \sim U(0, 1)`, a step learns from

    - fresh text of the student, which is kept, where :math:`r < \phi\,(1 - x)`, or where
      :math:`r < \phi` while fewer texts are kept than there is room for;
    - kept text where otherwise :math:`r < \phi`;
    - the data else.

    When the validation loss L is looked at, and :math:`L \ge L_{prev} + \epsilon`, then
    :math:`\phi \leftarrow \min(1, \phi + \text{rise})` and :math:`L_{prev} \leftarrow L`;
    otherwise neither moves. The first loss is that of the student before training.

    Attributes:
        init: chance before training.
        rise: what is added to the chance when the validation loss has grown.
        epsilon: how much it must grow for that, in nats per token.
        fresh: which part of the chance is fresh text: 1 - x, a half, or x.
        capacity: most texts that are kept; the oldest goes for a new one.
        every: look at the validation loss after so many steps, or after every stage.

    References:
        Ko et al., DistiLLM, ICML 2024, arXiv:2402.03898.
    """

    init: Annotated[float, Limits(0, 1)] = 0.0
    rise: Annotated[float, Limits(0, 1)] = 0.1
    epsilon: Annotated[float, Limits(0, 1e6)] = 0.1
    fresh: Literal["decreasing", "constant", "increasing"] = "decreasing"
    capacity: Annotated[int, Limits(1, 10_000_000)] = 1000
    every: int | Literal["stage"] = "stage"

    def __post_init__(self) -> None:
        if self.every != "stage" and self.every < 1:
            raise ConfigError(f"`every` is `stage` or a number of steps, got {self.every}.")

    def start(self) -> TextState:
        """The state before training."""
        return TextState(self.init)

    def observed(self, state: TextState, loss: float) -> TextState:
        """The state after a look at the validation loss, in nats per token."""
        if state.previous is None:
            return replace(state, previous=loss)
        if loss >= state.previous + self.epsilon:
            return replace(state, chance=min(1.0, state.chance + self.rise), previous=loss)
        return state

    def source(self, state: TextState, progress: float, draw: float) -> Source:
        """What a step learns from.

        Args:
            state: the state before it.
            progress: s / S in step s of S, from 1.
            draw: uniform in [0, 1).
        """
        parts = {"decreasing": 1.0 - progress, "constant": 0.5, "increasing": progress}
        if draw < state.chance * parts[self.fresh]:
            return "fresh"
        if draw < state.chance:
            return "replayed" if len(state.kept) >= self.capacity else "fresh"
        return "data"

    def keeping(self, state: TextState, written: Iterable[Key]) -> TextState:
        """The state after fresh texts were written."""
        return replace(state, kept=(*state.kept, *written)[-self.capacity :])


TEXT_CONTROLLERS: dict[str, Component] = {
    "distillm": Component(
        Distillm,
        "fresh or kept text of the student, more of it whenever the validation loss has grown",
        "Ko et al. 2024, arXiv:2402.03898",
    ),
}
"""Controllers of the texts' source by name; `tutelage ls text_controllers` prints them."""
