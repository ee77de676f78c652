"""Which option a model finds likeliest: choices without a word of generated text."""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.errors import ConfigError
from tutelage.evaluation.measure import Found, Measured, Progress, Read
from tutelage.evaluation.question import Question
from tutelage.evaluation.suite import Suite
from tutelage.generation import ScoringEngine

NORMS = ("acc", "acc_norm", "acc_bytes", "acc_tokens")
"""By the log-probability of the whole option, and by what it is for each character, UTF-8 byte and
token of it. The first three are called as in lm-evaluation-harness."""


def likeliest(asked: Suite) -> Suite:
    """A suite that asks by likelihood: accuracy under each of ``NORMS``.

    Args:
        asked: precision, batches and limit.
    """
    return dataclasses.replace(
        asked, metrics=dict.fromkeys(NORMS, Found()), measure=Likeliest(), seeds=(0,), ks=()
    )


@dataclass(frozen=True)
class Likeliest:
    """Compares the log-probabilities of the options after the prompt.

    After a text an option follows a space, after the opening of a conversation's answer nothing.
    Lengths are those of the option itself, without that space. Of options that are equally likely
    the first one counts.

    Questions say which option is right in ``extra["right"]``.
    """

    @property
    def identity(self) -> Mapping[str, Any]:
        """Of the way in which options are compared."""
        return {"measure": "likeliest"}

    whole = False

    def reader(self, engine: Any, suite: Suite) -> Read:
        """Tells the log-probability in nats and the tokens of each option of some questions."""
        if not isinstance(engine, ScoringEngine):
            raise ConfigError(
                f"The suite '{suite.name}' compares the likelihoods of options, which this engine"
                " does not tell. Ask for an answer in words (way=generate), or a model on this"
                " machine."
            )
        return functools.partial(_read, engine, suite)

    def conclude(self, questions: Sequence[Question], found: Sequence[Any]) -> Measured:
        """The likeliest option of each question, and whether it is right."""
        scores: dict[str, list[float]] = {norm: [] for norm in NORMS}
        shown = []
        for question, options in zip(questions, found, strict=True):
            lengths = {
                "acc": [1] * len(options),
                "acc_norm": [len(option) for option in question.options],
                "acc_bytes": [len(option.encode()) for option in question.options],
                "acc_tokens": [num_tokens for _, num_tokens in options],
            }
            for norm, sizes in lengths.items():
                each = [logprob / size for (logprob, _), size in zip(options, sizes, strict=True)]
                scores[norm].append(float(each.index(max(each)) == question.extra["right"]))
            shown.append(_shown(question.options, [logprob for logprob, _ in options]))
        return Measured(shown, scores)


def _read(
    engine: Any, suite: Suite, questions: Sequence[Question], progress: Progress
) -> list[list[tuple[float, int]]]:
    prompts, options = [], []
    for question in questions:
        prompt = suite.prompt_of(question, engine)
        before = " " if isinstance(prompt, str) else ""
        prompts += [prompt] * len(question.options)
        options += [before + option for option in question.options]
    found = iter(engine.log_likelihoods(prompts, options, suite.generation, progress=progress))
    return [
        [(one.logprob, one.num_tokens) for one in itertools.islice(found, len(question.options))]
        for question in questions
    ]


def _shown(options: Sequence[str], logprobs: Sequence[float]) -> str:
    """The options with their log-probabilities in nats, the likeliest first."""
    ranked = sorted(zip(options, logprobs, strict=True), key=lambda pair: -pair[1])
    return "\n".join(f"{logprob:.3f} {option}" for option, logprob in ranked)
