"""A suite of the user's own: a file of prompts and answers, scored as ``evaluation`` says."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from tutelage.components import Names
from tutelage.errors import DataError
from tutelage.evaluation.question import Question
from tutelage.evaluation.suite import PromptForm, Suite
from tutelage.types import Example


def file(
    asked: Suite,
    *,
    data: str,
    template: str = "auto",
    system: str | None = None,
    columns: Mapping[str, str] | None = None,
    prompt: PromptForm = "auto",
    metrics: Annotated[list[Mapping[str, Any]], Names("metric")] = [],  # noqa: B006
) -> Suite:
    """Any file that training data could be read from.

    Args:
        asked: metrics, generation and seeds.
        data: the file.
        template: how a prompt is written as text; see the data section of a recipe.
        system: a system text for every question.
        columns: our names of columns to the file's, as in ``data.columns``; ``{}`` for none. Left
            out, those of the recipe's data count if the file has them.
        prompt: as a conversation, as text, or whatever the model can.
        metrics: how answers are scored, where it is not as for all suites: ``kind`` and options.

    Returns:
        The suite, whose file is read when it is asked for its questions.
    """
    from tutelage.evaluation.metric import bound_metrics

    own = {str(one["kind"]): {k: v for k, v in one.items() if k != "kind"} for one in metrics}
    return dataclasses.replace(
        asked,
        read=functools.partial(
            questions_of_examples, data, template, system, columns, asked.columns
        ),
        prompt=prompt,
        metrics=bound_metrics(own) if own else asked.metrics,
    )


def questions_of_examples(
    data: str,
    template: str,
    system: str | None,
    columns: Mapping[str, str] | None = None,
    general: Mapping[str, str] | None = None,
) -> list[Question]:
    """The questions of a file that training data could be read from.

    Args:
        data: the file.
        template: how a prompt is written as text.
        system: a system text for every question.
        columns: our names of columns to the file's; None where nothing is said of this file.
        general: the same of a recipe's data, which count then if the file has them.
    """
    from tutelage.data import load_examples
    from tutelage.data.sources import Source

    names = _names(data, general or {}) if columns is None else {}
    loaded = load_examples([Source(data, columns=columns)], split="test", names=names)
    return [_question(example, template, system) for example in loaded.examples]


def has_columns(found: Sequence[str], names: Mapping[str, str]) -> bool:
    """Whether a file has all columns that names stand for, of which there is one."""
    return bool(names) and set(names.values()) <= set(found)


def _names(data: str, general: Mapping[str, str]) -> Mapping[str, str]:
    """The names of a recipe's data, unless the file lacks them and is an example without them."""
    from tutelage.data.read import read_rows
    from tutelage.data.shapes import KNOWN_COLUMNS, find_shape

    if not general:
        return {}
    first = next(read_rows(data, "test", (*KNOWN_COLUMNS, *general.values())), None)
    if first is None or has_columns(first.found, general):
        return general
    try:
        find_shape(first)
    except DataError:
        return general  # whose error says which column is missing
    return {}


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
