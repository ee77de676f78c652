"""What generates answers: prompts in, answers out, whoever runs the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from tutelage.errors import DataError
from tutelage.generation.settings import GenerationSettings
from tutelage.types import Message


@dataclass(frozen=True)
class Chat:
    """A conversation that the assistant is to continue, as the model's own chat template writes it.

    Attributes:
        messages: the turns so far; the last one is not the assistant's.
    """

    messages: tuple[Message, ...]


Prompt = str | Sequence[int] | Chat
"""A text, the token ids that the model is given, or a conversation."""

Finish = Literal["stop", "length"]
"""What ended an answer: the model or a stop string, or the limit of its length."""


@dataclass(frozen=True)
class Answer:
    """What a model wrote after one prompt. Two answers are equal when they read the same.

    Attributes:
        text: the answer without special tokens, without half a character that the limit cut, and
            without the stop string that ended it.
        num_tokens: tokens generated, those that ended it included.
        finish: what ended it.
        tokens: the token ids, those that ended it included; empty where an engine gives none.
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
class Likelihood:
    """How likely a model finds one continuation of one prompt.

    Attributes:
        logprob: sum of the log-probabilities of its tokens, in nats.
        num_tokens: so many tokens.
        greedy: whether each of them is the likeliest one, so that greedy generation writes it.
    """

    logprob: float
    num_tokens: int
    greedy: bool


@dataclass(frozen=True)
class AskedModel:
    """A model that is to answer, for engines that run it here and for those that run it elsewhere.

    Attributes:
        place: a folder or a name on the hub; empty for a model that is in memory alone.
        load: gives the model on its device. An engine that runs it elsewhere does not call this.
        tokenizer: its own tokenizer.
        role: what it is in a recipe: the name of a teacher, ``student`` before it is trained, or
            empty for any other.
    """

    place: str
    load: Callable[[], Any]
    tokenizer: Any
    role: str = ""


class Engine(Protocol):
    """Answers prompts with one model. The contract test says what all engines keep."""

    @property
    def chats(self) -> bool:
        """Whether the model is to be asked in conversations wherever there is a choice."""
        ...

    def answer(
        self,
        prompts: Sequence[Prompt],
        settings: GenerationSettings,
        *,
        seed: int | Sequence[int] = 0,
        progress: Callable[[int, int], None] | None = None,
        on_answer: Callable[[int, Answer], None] | None = None,
    ) -> list[Answer]:
        """One answer to each prompt, in the order of the prompts.

        What is drawn for a prompt depends on its seed and on the prompt alone, to rounding: not on
        the other prompts of the call. So equal prompts with equal seeds get equal answers, and
        several samples of one prompt need several seeds. Greedy answers do not depend on the seed.
        The global random state is neither read nor changed.

        To rounding: a model's numbers differ in their last bits with the shape of the batch. An
        answer changes where such a difference decides between two tokens, which is rare in float32
        and less so in 16 bits; from that token on it is another answer.

        Args:
            prompts: what is to be continued; a text is read as the beginning of a text.
            settings: lengths, sampling, batches, precision.
            seed: of the sampling: one for all prompts, or one for each.
            progress: called with (prompts done, prompts in all).
            on_answer: called with the position of a prompt and its answer, once for each, when the
                answer is final and asking the other prompts again without this one would give them
                the same answers; so a caller may keep it, and ask for the rest after a kill.

        Raises:
            DataError: a prompt without tokens, a conversation that the chat template cannot write,
                or another number of seeds than of prompts.
        """
        ...


@runtime_checkable
class ScoringEngine(Protocol):
    """An engine that can read, too; those that cannot have no such method."""

    def log_likelihoods(
        self,
        prompts: Sequence[Prompt],
        continuations: Sequence[str],
        settings: GenerationSettings,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Likelihood]:
        """How likely the model finds each continuation of the prompt at the same position.

        Prompt and continuation are tokenized as one text, and what follows the prompt's own number
        of tokens is the continuation. Spaces at the end of a text are read with the continuation,
        as they are when a model writes. After tokens and conversations, which are given to a model
        as they are, the continuation is tokenized as it follows them.

        Args:
            prompts: what is read first.
            continuations: what is scored, without the token that would end it.
            settings: batches and precision; the rest says how answers are written.
            progress: called with (continuations done, continuations in all).

        Raises:
            DataError: a prompt or a continuation without tokens, both together longer than the
                model can read, or lists of different length.
        """
        ...


def check_conversation(number: int, prompt: Chat) -> None:
    """Make sure that a conversation asks something.

    Args:
        number: of the prompt, for messages.
        prompt: the conversation.

    Raises:
        DataError: it is empty, or ends with the assistant's turn.
    """
    if not prompt.messages or prompt.messages[-1].role == "assistant":
        what = "ends with the assistant's turn" if prompt.messages else "has no turns"
        raise DataError(
            f"Prompt {number} is a conversation that {what}, so nothing is asked in it. End it with"
            " a turn of the user."
        )


def seeds_of(seed: int | Sequence[int], prompts: Sequence[Prompt]) -> list[int]:
    """The seed of each prompt.

    Raises:
        DataError: there is another number of them.
    """
    seeds = [seed] * len(prompts) if isinstance(seed, int) else list(seed)
    if len(seeds) != len(prompts):
        raise DataError(
            f"{len(prompts)} prompts came with {len(seeds)} seeds. Give one seed for each prompt,"
            " or a single one for all."
        )
    return seeds
