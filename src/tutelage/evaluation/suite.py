"""A suite: what is asked of a model, how it answers, and how its answers become numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tutelage.errors import ConfigError
from tutelage.evaluation.measure import Measure
from tutelage.evaluation.metric import Metric
from tutelage.evaluation.question import Question, check_questions
from tutelage.generation import Chat, Engine, GenerationSettings, Prompt

PromptForm = Literal["auto", "chat", "text"]
"""As a conversation, as a text, or as a conversation wherever the model can hold one."""


@dataclass(frozen=True)
class Suite:
    """What is asked of a model, how it answers, and how its answers become scores.

    Attributes:
        name: what its results are called.
        metrics: by the name of the score that each gives, at least one; the first leads.
        split: which rows of a recipe's data are asked, for a suite without questions of its own.
        generation: how answers are generated.
        seeds: sampling seeds, at least one; greedy answers are made once, for the first.
        limit: ask so many of the questions, the first ones; None for all.
        read: its own questions, read from a file; None for a suite that asks rows of a recipe.
        prompt: in which form questions are asked that have both.
        text_ends: what else ends an answer where questions are asked as text: a model that is not
            tuned to be asked goes on.
        measure: finds the numbers that ``metrics`` names otherwise than by answers; None: answers
            are generated and scored.
        ks: pass@k of the leading metric for each of these numbers: whether one of k answers is
            right, estimated without bias from the answers of all seeds.
        columns: what a recipe's data call the columns of an example; counts for suites that read
            such data, from files that have them.

    Raises:
        ConfigError: no metric or no seed, or a k above the number of answers.
    """

    name: str
    metrics: Mapping[str, Metric]
    split: str = "test"
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    seeds: tuple[int, ...] = (10,)
    limit: int | None = None
    read: Callable[[], Sequence[Question]] | None = None
    prompt: PromptForm = "auto"
    ks: tuple[int, ...] = ()
    measure: Measure | None = None
    text_ends: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.metrics or not self.seeds:
            raise ConfigError(
                "An evaluation needs at least one metric and one seed, got"
                f" metrics={list(self.metrics)} and seeds={list(self.seeds)}."
                " Name a metric, as in {rouge_l: {}}, and a seed, as in [10]."
            )
        if self.ks and not 1 <= min(self.ks) <= max(self.ks) <= len(self.asked_seeds):
            raise ConfigError(
                f"pass@k needs k answers to each question, and '{self.name}' has"
                f" {len(self.asked_seeds)}: give as many seeds, and sample with"
                " sampling_temperature above 0."
            )

    @property
    def asked_seeds(self) -> tuple[int, ...]:
        """The seeds for which answers are generated."""
        return self.seeds[:1] if self.generation.greedy else self.seeds

    def rows_of(self, rows: Any) -> Any:
        """The rows that are asked, of all rows of the split."""
        return rows if self.limit is None else rows.select(range(min(self.limit, len(rows))))

    def questions(self) -> list[Question]:
        """Its own questions, up to its limit."""
        assert self.read is not None
        return list(self.read())[: self.limit]

    def check(self, questions: Sequence[Question]) -> None:
        """Make sure that these can be asked, and their answers scored, before anything is.

        Raises:
            DataError: there are none, ids repeat, or a metric cannot use a question.
        """
        check_questions(questions)
        for metric in self.metrics.values():
            metric.check(questions)

    def prompt_of(self, question: Question, engine: Engine) -> Prompt:
        """The form of a question in which an engine is asked it."""
        chats = self.prompt == "chat" or (self.prompt == "auto" and engine.chats)
        return question.chat if chats and question.chat is not None else question.prompt

    def generation_of(self, prompts: Sequence[Prompt]) -> GenerationSettings:
        """How answers to some prompts are generated, by their form."""
        if not self.text_ends or any(isinstance(prompt, Chat) for prompt in prompts):
            return self.generation
        ends = (*self.generation.stop_strings, *self.text_ends)
        return replace(self.generation, stop_strings=ends)
