"""What generates answers: prompts in, answers out, whoever runs the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tutelage.generation.settings import GenerationSettings

Prompt = str | Sequence[int]
"""A text, or the token ids that the model is given."""

Finish = Literal["stop", "length"]
"""What ended an answer: the model, or the limit of its length."""


@dataclass(frozen=True)
class Answer:
    """What a model wrote after one prompt. Two answers are equal when they read the same.

    Attributes:
        text: the answer without special tokens, and without half a character that the limit cut.
        num_tokens: tokens generated, the end-of-sequence token included.
        finish: what ended it.
        tokens: the token ids, the end-of-sequence token included; empty where an engine gives none.
        seed: what it was drawn with.
        logprobs: log-probability of each token, in nats; None where an engine gives none.
    """

    text: str
    num_tokens: int
    finish: Finish
    tokens: tuple[int, ...] = field(default=(), compare=False)
    seed: int = field(default=0, compare=False)
    logprobs: tuple[float, ...] | None = field(default=None, compare=False)

    @property
    def truncated(self) -> bool:
        """Whether the length limit ended the answer, not the model."""
        return self.finish == "length"


@dataclass(frozen=True)
class AskedModel:
    """A model that is to answer, for engines that run it here and for those that run it elsewhere.

    Attributes:
        place: a folder or a name on the hub; empty for a model that is in memory alone.
        load: gives the model on its device. An engine that runs it elsewhere does not call this.
        tokenizer: its own tokenizer.
    """

    place: str
    load: Callable[[], Any]
    tokenizer: Any


class Engine(Protocol):
    """Answers prompts with one model. The contract test says what all engines keep."""

    def answer(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        """One answer to each prompt, in the order of the prompts.

        The same prompts with the same settings and seed get the same answers; greedy ones do not
        depend on the seed. The global random state is neither read nor changed.

        Args:
            prompts: what is to be continued; a text is read as the beginning of a text.
            settings: lengths, sampling, batches, precision.
            seed: of the sampling.
            progress: called with (prompts done, prompts in all).

        Raises:
            DataError: a prompt without tokens.
        """
        ...
