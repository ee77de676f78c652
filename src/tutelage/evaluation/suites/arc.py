"""ARC: science questions of grade-school examinations, with options."""

from typing import Annotated

from tutelage.components import Limits
from tutelage.evaluation.suite import PromptForm, Suite
from tutelage.evaluation.suites.choice import Scored, Way, read_choices, suite_of_choices


def arc(
    asked: Suite,
    *,
    data: str,
    way: Way = "generate",
    scored: Scored = "text",
    shots: Annotated[int, Limits(0, 1000)] = 0,
    examples: str = "",
    shots_seed: int = 0,
    prompt: PromptForm = "auto",
    max_new_tokens: Annotated[int, Limits(1, 1_000_000)] = 512,
) -> Suite:
    """Whether the right option is chosen, of ARC's files as they are distributed.

    Args:
        asked: precision, batches and limit.
        data: ``question`` with ``stem`` and ``choices``, and ``answerKey``; or as on the hub.
        way: see the suite ``choice``, and so are the others.
        scored: for the likelihood.
        shots: solved questions before each one.
        examples: where they are drawn from.
        shots_seed: of that draw.
        prompt: as a conversation, as text, or whatever the model can.
        max_new_tokens: longest answer.

    References:
        Clark et al., Think you have Solved Question Answering?, arXiv:1803.05457.
    """
    return suite_of_choices(
        asked, "arc", read_choices, data=data, way=way, scored=scored, shots=shots,
        examples=examples, shots_seed=shots_seed, prompt=prompt, max_new_tokens=max_new_tokens,
    )  # fmt: skip
