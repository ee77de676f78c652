"""Questions with options, answered in words or by what the model finds likeliest."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from tutelage.components import Limits
from tutelage.evaluation.asking import as_chat, generated
from tutelage.evaluation.chosen import Chosen
from tutelage.evaluation.likeliest import likeliest
from tutelage.evaluation.options import (
    LAYOUT,
    LETTERS,
    Choice,
    check_numbers_alike,
    choice_of,
)
from tutelage.evaluation.question import Question
from tutelage.evaluation.reading import Names, cluster_of
from tutelage.evaluation.shots import Shot, before, drawn_shots, examples_file
from tutelage.evaluation.suite import PromptForm, Suite

Way = Literal["generate", "likelihood"]
"""An answer in words, or the option that the model finds likeliest."""

Scored = Literal["letter", "text"]
"""What the likelihood is of: the letter of an option that the prompt lists, or its text alone."""

_END = "End with 'The answer is' and the {what}."


def choice(
    asked: Suite,
    *,
    data: str,
    way: Way = "generate",
    scored: Scored = "text",
    shots: Annotated[int, Limits(0, 1000)] = 0,
    examples: str = "",
    shots_seed: int = 0,
    prompt: PromptForm = "auto",
    group: str = "",
    max_new_tokens: Annotated[int, Limits(1, 1_000_000)] = 512,
) -> Suite:
    """Whether the right option is chosen, of any file with questions, options and answers.

    Args:
        asked: precision, batches and limit.
        data: a question, its options (a list, labels with texts, or a column for each) and the
            answer (a label, a text or a number from 0); or an answer of yes or no.
        way: in words, scored by the verifier ``choice`` and, for an answer without a letter, by the
            one option that it names; or by likelihood, without generating:
            ``acc`` (of the whole text), ``acc_norm`` (per character), ``acc_bytes`` and
            ``acc_tokens``, as lm-evaluation-harness calls them.
        scored: for the likelihood, see ``Scored``.
        shots: solved questions before each one, where it is asked as text.
        examples: the file that they are drawn from; a ``train`` file beside the data if left out.
        shots_seed: of that draw.
        prompt: as a conversation, as text, or whatever the model can; likelihoods are taken after
            text unless this is ``chat``.
        group: a column to report scores by.
        max_new_tokens: longest answer.
    """
    return suite_of_choices(
        asked, "choice", functools.partial(read_choices, group=group), data=data, way=way,
        scored=scored, shots=shots, examples=examples, shots_seed=shots_seed, prompt=prompt,
        max_new_tokens=max_new_tokens,
    )  # fmt: skip


def read_choices(data: str, group: str = "") -> list[Choice]:
    """The questions of a file."""
    choices = [choice_of(entry) for entry in LAYOUT.read(data, group=group)]
    check_numbers_alike(choices)
    return choices


def suite_of_choices(
    asked: Suite,
    name: str,
    read: Callable[[str], list[Choice]],
    *,
    data: str,
    way: Way,
    scored: Scored,
    shots: int,
    examples: str,
    shots_seed: int,
    prompt: PromptForm,
    max_new_tokens: int,
) -> Suite:
    """A suite of questions with options; see :func:`choice`."""
    examples = examples_file(data, examples, shots, name)
    lists = way == "generate" or scored == "letter"
    questions = functools.partial(_questions, read, data, examples, shots, shots_seed, lists)
    if way == "likelihood":
        form: PromptForm = "chat" if prompt == "chat" else "text"
        return dataclasses.replace(likeliest(asked), prompt=form, read=questions)
    return dataclasses.replace(
        generated(asked, max_new_tokens=max_new_tokens, text_ends=["\nQuestion:"]),
        metrics={"choice": Chosen()},
        prompt=prompt,
        read=questions,
    )


def _questions(
    read: Callable[[str], list[Choice]],
    data: str,
    examples: str,
    count: int,
    seed: int,
    lists: bool,
) -> list[Question]:
    shots: Sequence[Shot] = []
    if examples and count:
        names = Names()
        solved = [
            Shot(_id(one, names), _asked(one, lists), f" {_solution(one, lists)}")
            for one in read(examples)
        ]
        shots = drawn_shots(solved, count, seed, examples)
    names = Names()
    return [_question(one, names, shots, count, lists) for one in read(data)]


def _id(one: Choice, names: Names) -> str:
    return names.of(one.entry, one.passage, one.question, list(one.options), one.right)


def _question(
    one: Choice, names: Names, shots: Sequence[Shot], count: int, lists: bool
) -> Question:
    own = _id(one, names)
    return Question(
        own,
        before(_asked(one, lists), shots, count, without=own),
        chat=as_chat(_in_chat(one, lists)),
        references=("yes" if one.right == 0 else "no",) if one.yes_or_no else (LETTERS[one.right],),
        group=one.entry.label("group"),
        cluster=cluster_of(one.passage),
        options=_answers(one, lists),
        extra={"right": one.right, "texts": list(one.options)},
    )


def _answers(one: Choice, lists: bool) -> tuple[str, ...]:
    """What each option is as an answer: its letter where the prompt lists them, else its text."""
    if one.yes_or_no or not lists:
        return one.options
    return tuple(LETTERS[: len(one.options)])


def _solution(one: Choice, lists: bool) -> str:
    """The right answer as a solved question says it: after its reasons, where it has some."""
    right = _answers(one, lists)[one.right]
    return f"{one.reasons} So the answer is {right}." if one.reasons and lists else right


def _listed(one: Choice) -> str:
    return "\n".join(
        f"{letter}. {text}" for letter, text in zip(LETTERS, one.options, strict=False)
    )


def _asked(one: Choice, lists: bool) -> str:
    """As text, up to where the answer begins."""
    parts = [f"Passage: {one.passage}"] if one.passage else []
    parts.append(f"Question: {one.question}")
    if lists and not one.yes_or_no:
        parts.append(_listed(one))
    return "\n".join([*parts, "Answer:"])


def _in_chat(one: Choice, lists: bool) -> str:
    """As a user asks it."""
    parts = list(filter(None, [one.passage, one.question]))
    if one.yes_or_no:
        return "\n\n".join([*parts, _END.format(what="word yes or no")])
    if not lists:
        return "\n\n".join(parts)
    return "\n\n".join([*parts, _listed(one), _END.format(what="letter of the right option")])
