"""Held-out text: how well a model predicts it, and how close it is to a teacher there."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

from tutelage.components import Limits
from tutelage.evaluation.held_out import AGREEMENT, ALONE, HeldOut
from tutelage.evaluation.measure import Found
from tutelage.evaluation.question import Question
from tutelage.evaluation.reading import Layout, Names
from tutelage.evaluation.suite import PromptForm, Suite

_LAYOUT = Layout(
    "perplexity",
    {"text": ("text", "content", "document", "page")},
    {"group": ("group", "domain", "source", "task", "category")},
)


def perplexity(
    asked: Suite,
    *,
    data: str,
    max_length: Annotated[int, Limits(2, 1_000_000)] = 2048,
    template: str = "auto",
    system: str | None = None,
    columns: Mapping[str, str] | None = None,
    prompt: PromptForm = "auto",
    group: str = "",
) -> Suite:
    """How well a model predicts held-out text: nats per token, bits per byte, calibration.

    Args:
        asked: precision, batches and limit.
        data: ``text``; or prompts and answers as for training, whose answers alone are predicted.
        max_length: longest window in tokens; a longer text is read in several.
        template: how prompts are written as text; see the data section of a recipe.
        system: a system text for prompts.
        columns: our names of the columns of prompts and answers to the file's, as in
            ``data.columns``; ``{}`` for none. Left out, those of the recipe's data count if the
            file has them.
        prompt: prompts as conversations, as text, or as the model can.
        group: a column to report by.
    """
    read = functools.partial(_read, data, template, system, group, columns, asked.columns)
    return _suite(asked, HeldOut(max_length=max_length), read, prompt)


def agreement(
    asked: Suite,
    *,
    data: str,
    teacher: str,
    teacher_dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    max_length: Annotated[int, Limits(2, 1_000_000)] = 2048,
    template: str = "auto",
    system: str | None = None,
    columns: Mapping[str, str] | None = None,
    prompt: PromptForm = "auto",
    group: str = "",
) -> Suite:
    """How close a model is to a teacher, token by token, beside what ``perplexity`` finds.

    Args:
        asked: precision, batches and limit.
        data: see ``perplexity``, and so are the others.
        teacher: a model with the same tokenizer.
        teacher_dtype: type of its weights.
        max_length: longest window.
        template: how prompts are written.
        system: a system text.
        columns: names of columns.
        prompt: in which form.
        group: a column to report by.
    """
    measure = HeldOut(teacher, max_length, teacher_dtype)
    read = functools.partial(_read, data, template, system, group, columns, asked.columns)
    return _suite(asked, measure, read, prompt)


def _suite(
    asked: Suite, measure: HeldOut, read: Callable[[], list[Question]], prompt: PromptForm
) -> Suite:
    names = (*AGREEMENT, *ALONE) if measure.teacher else ALONE
    return dataclasses.replace(
        asked,
        metrics=dict.fromkeys(names, Found()),
        measure=measure,
        seeds=(0,),
        ks=(),
        prompt=prompt,
        read=read,
    )


def _read(
    data: str,
    template: str,
    system: str | None,
    group: str,
    columns: Mapping[str, str] | None,
    general: Mapping[str, str],
) -> list[Question]:
    from tutelage.data.read import read_rows
    from tutelage.evaluation.suites.file import has_columns, questions_of_examples

    texts = [name for names in _LAYOUT.needed.values() for name in names]
    first = next(read_rows(data, "test", (*texts, *general.values())), None)
    if first is not None:
        # A column `text` may be what the data call a prompt.
        named = bool(columns) if columns is not None else has_columns(first.found, general)
        if named or not set(texts) & set(first.found):
            return questions_of_examples(data, template, system, columns, general)
    return list(_texts(data, group, Names()))


def _texts(data: str, group: str, names: Names) -> Iterable[Question]:
    for entry in _LAYOUT.read(data, group=group):
        text = entry.text("text")
        yield Question(names.of(entry, text), "", references=(text,), group=entry.label("group"))
