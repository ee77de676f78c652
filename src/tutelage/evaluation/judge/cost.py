"""What judging will take, before it is begun, and as much as may be spent."""

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.evaluation.judge.values import JudgeSettings
from tutelage.generation.engine import Chat

BYTES_A_TOKEN = 3
"""The rule by which prompts are counted: English has about four bytes to a token, most other
languages and code two to four."""


def prompt_tokens(prompt: Chat) -> int:
    """Tokens of a prompt by the rule: one for every three bytes of its texts, rounded up."""
    size = sum(len(turn.content.encode("utf-8", "replace")) for turn in prompt.messages)
    return -(-size // BYTES_A_TOKEN)


@dataclass(frozen=True)
class Estimate:
    """What is still to be asked and what that takes at most.

    Attributes:
        calls: questions to the judge.
        kept: verdicts that are there already.
        prompt_tokens: that it reads, by the rule.
        most_answer_tokens: that it writes at most.
        most_cost: what that costs at most.
        most_seconds: how long it takes at most, by the stated speed of the judge.
    """

    calls: int
    kept: int
    prompt_tokens: int
    most_answer_tokens: int
    most_cost: float
    most_seconds: float


def estimate(
    prompts: Sequence[Chat], settings: JudgeSettings, *, kept: int = 0, concurrency: int = 1
) -> Estimate:
    """What asking a judge takes at most.

    Args:
        prompts: what it is still to be asked.
        settings: lengths, prices, speed.
        kept: verdicts that are there.
        concurrency: questions that it answers at once.
    """
    tokens_in = sum(map(prompt_tokens, prompts))
    tokens_out = len(prompts) * settings.max_new_tokens
    rounds = -(-len(prompts) // concurrency)
    return Estimate(
        calls=len(prompts),
        kept=kept,
        prompt_tokens=tokens_in,
        most_answer_tokens=tokens_out,
        most_cost=settings.price(tokens_in, tokens_out),
        most_seconds=rounds * settings.max_new_tokens / settings.tokens_per_second,
    )


def affordable(prompts: Sequence[Chat], settings: JudgeSettings, spent: float) -> int:
    """How many of the first prompts can be asked without any chance to pass the limit."""
    if settings.spending_limit is None:
        return len(prompts)
    for number, prompt in enumerate(prompts):
        spent += settings.price(prompt_tokens(prompt), settings.max_new_tokens)
        if spent > settings.spending_limit:
            return number
    return len(prompts)
