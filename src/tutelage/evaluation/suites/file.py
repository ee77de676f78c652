"""A suite of the user's own: a file of prompts and answers, scored as ``evaluation`` says."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any

from tutelage.components import Names
from tutelage.evaluation.question import Question
from tutelage.evaluation.suite import PromptForm, Suite
from tutelage.types import Example


def file(
    asked: Suite,
    *,
    data: str,
    template: str = "auto",
    system: str | None = None,
    prompt: PromptForm = "auto",
    metrics: Annotated[list[Mapping[str, Any]], Names("metric")] = [],  # noqa: B006
) -> Suite:
    """Any file that training data could be read from.

    Args:
        asked: metrics, generation and seeds.
        data: the file.
        template: how a prompt is written as text; see the data section of a recipe.
        system: a system text for every question.
        prompt: as a conversation, as text, or whatever the model can.
        metrics: how answers are scored, where it is not as for all suites: ``kind`` and options.

    Returns:
        The suite, whose file is read when it is asked for its questions.
    """
    from tutelage.evaluation.metric import bound_metrics

    own = {str(one["kind"]): {k: v for k, v in one.items() if k != "kind"} for one in metrics}
    return dataclasses.replace(
        asked,
        read=functools.partial(questions_of_examples, data, template, system),
        prompt=prompt,
        metrics=bound_metrics(own) if own else asked.metrics,
    )


def questions_of_examples(data: str, template: str, system: str | None) -> list[Question]:
    """The questions of a file that training data could be read from.

    Args:
        data: the file.
        template: how a prompt is written as text.
        system: a system text for every question.
    """
    from tutelage.data import load_examples

    loaded = load_examples(data, split="test")
    return [_question(example, template, system) for example in loaded.examples]


def _question(example: Example, template: str, system: str | None) -> Question:
    from tutelage.data.chat import chat_messages
    from tutelage.data.format import render, template_name
    from tutelage.generation import Chat

    turns = chat_messages(example, system)
    chat = Chat(tuple(turns[:-1]))
    # A conversation of several turns has no other form.
    has_text = template_name(example, template, None) != "chat"
    return Question(
        example.id,
        render(example, template, None, system).prompt if has_text else chat,
        chat=chat if template in ("auto", "chat") else None,
        references=example.references,
        group=example.group,
    )
