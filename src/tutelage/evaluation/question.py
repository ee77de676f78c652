"""What a model is asked, as values: one question, and all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tutelage.errors import DataError
from tutelage.generation import Chat, Prompt
from tutelage.proofs import fingerprint
from tutelage.types import check_unique


@dataclass(frozen=True)
class Question:
    """One question of a suite, with all that is needed to score its answers.

    Attributes:
        id: unique within its suite, and the same whenever the same data are read.
        prompt: what the model is to continue: a text, or its tokens.
        chat: the same as a conversation, for models that were tuned to hold one; None where a suite
            has no such form.
        shown: the prompt as people read it, where it is tokens.
        references: right answers, of which metrics need one to be met; may be empty for a suite
            whose metrics do not.
        group: what it is reported with (a task, a subject, a level); empty for none.
        cluster: questions of one cluster share something (a passage), and so count as one for the
            error bar; empty for a question that shares nothing.
        options: the choices of a suite that is answered by likelihood.
        extra: further values that a metric needs, as JSON has them.
    """

    id: str
    prompt: Prompt
    chat: Chat | None = None
    shown: str = ""
    references: tuple[str, ...] = ()
    group: str = ""
    cluster: str = ""
    options: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def read_as(self, prompt: Prompt) -> str:
        """One of its two prompts as people read it."""
        if isinstance(prompt, Chat):
            turns = prompt.messages
            if len(turns) == 1:
                return turns[0].content
            return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
        return prompt if isinstance(prompt, str) else self.shown


def questions_of(rows: Any) -> list[Question]:
    """The questions in tokenized rows.

    Args:
        rows: with ``id``, ``input_ids``, ``num_prompt_tokens`` (the prompt is
            ``input_ids[:num_prompt_tokens]``), ``prompt``, ``references`` and ``group`` (empty for
            none).
    """
    names = ("id", "input_ids", "num_prompt_tokens", "prompt", "references", "group")
    return [
        Question(
            example,
            tuple(tokens[:length]),
            shown=prompt,
            references=tuple(references),
            group=group,
        )
        for example, tokens, length, prompt, references, group in zip(
            *(rows[name] for name in names), strict=True
        )
    ]


def check_questions(questions: Sequence[Question]) -> None:
    """Make sure that there is something to ask, and that each question has an id of its own.

    Raises:
        DataError: there is not, or ids repeat.
    """
    if not questions:
        raise DataError(
            "The evaluation data has no rows, so there is nothing to answer. Check the file and the"
            " length limits of the data, which may have dropped all of them."
        )
    check_unique([question.id for question in questions])


def question_digest(question: Question) -> str:
    """What two evaluations share that asked one question, whether as a text or in a chat."""
    return fingerprint(asdict(question))[:16]


def questions_fingerprint(questions: Sequence[Question]) -> str:
    """What changes when a question does: another prompt, reference or test."""
    return fingerprint([asdict(question) for question in questions])
