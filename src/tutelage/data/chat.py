"""Conversations in a tokenizer's chat format, and where the assistant's turns are in them.

Templates of reasoning models write a turn differently once later turns follow: they drop its
thoughts, or open only the last answer with an empty block of them. So answers are looked for in the
finished conversation, which is what a model learns, and not in its beginnings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from tutelage.data import thoughts
from tutelage.data.ending import MARK, turn_end
from tutelage.data.openings import Opening
from tutelage.data.pieces import common_length
from tutelage.errors import ConfigError, DataError
from tutelage.overdue import watched
from tutelage.types import Example, Message

SYSTEM_ROLES = ("system", "developer")
_CALLS = ("tool_calls", "function_call")
SPOKEN = (*_CALLS, *thoughts.FIELDS)
"""Keys of a turn that are a part of what the assistant says."""

# What the code of a template may raise beside its own errors.
_TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)


@dataclass(frozen=True)
class Answer:
    """A turn of the assistant in a finished conversation; positions count characters.

    Attributes:
        start: where begins what the model writes.
        end: where its content ends; what ends the turn follows.
        learned: whether the data want it learned.
        thoughts_lost: whether it has thoughts that the template does not write.
        empty: whether the template writes nothing where its content would stand.
    """

    start: int
    end: int
    learned: bool = True
    thoughts_lost: bool = False
    empty: bool = False


@dataclass(frozen=True)
class Conversation:
    """A conversation as the chat template writes it.

    Attributes:
        text: all of it.
        answers: the turns of the assistant in order, but for those that the template leaves out;
            the last one is the answer.
        opening: what opens the answer; None where nothing was asked.
        turns_lost: turns of the assistant that the template leaves out.
        by_hand: whether the answer was put after its opening here and not by the template.
        reopened: whether that is another opening than the template's for this answer, so that
            nobody is to learn the answer.
        unclosed: whether the answer breaks off inside its thoughts, of which the template knows.
    """

    text: str
    answers: tuple[Answer, ...]
    opening: Opening | None = None
    turns_lost: int = 0
    by_hand: bool = False
    reopened: bool = False
    unclosed: bool = False

    @property
    def prompt(self) -> str:
        """Everything before the last answer."""
        return self.text[: self.answers[-1].start]

    @property
    def answer(self) -> str:
        """The last answer as the template writes it, without its end."""
        return self.text[self.answers[-1].start : self.answers[-1].end]


def chat_template_of(tokenizer: PreTrainedTokenizerBase | None, *, tools: bool = False) -> str:
    """The source of the chat template that the tokenizer uses.

    Raises:
        ConfigError: there is none, or none of several is the one to use.
    """
    if tokenizer is None or not tokenizer.chat_template:
        raise ConfigError(
            "The chat format was asked for, or the rows are conversations, but the tokenizer has no"
            " chat template. Use a tokenizer that has one, set `tokenizer.chat_template`, or choose"
            " the template 'plain', which takes conversations of one question and one answer."
        )
    templates: Any = tokenizer.chat_template
    if isinstance(templates, str):
        return templates
    names = sorted(templates) if isinstance(templates, dict) else []
    for name in ["tool_use", "default"] if tools else ["default"]:
        if name in names:
            return templates[name]
    raise ConfigError(
        "The tokenizer has several chat templates, and none of them is called 'default'"
        f" ({', '.join(names) or type(templates).__name__}), so nothing says which one to use. Set"
        " `tokenizer.chat_template` to one of them (or name it 'default') and save the tokenizer,"
        " or choose the template 'plain'."
    )


def request_text(example: Example) -> str:
    """What the example asks: its prompt, its question, or its instruction followed by its input."""
    fields = example.fields
    parts = [fields[name] for name in ("prompt", "question", "instruction") if fields.get(name)][:1]
    if not parts:
        raise DataError(
            f"Example '{example.id}' has no prompt, question or instruction among its fields"
            f" ({', '.join(fields) or 'none'}). Add one, or name the fields in a template."
        )
    return "\n\n".join([*parts, *filter(None, [fields.get("input")])])


def chat_messages(example: Example, system: str | None) -> list[Message]:
    """The example as a conversation that ends with the answer."""
    system = example.system_or(system)
    if example.messages:
        turns = list(example.messages)
    else:
        turns = [Message("user", request_text(example)), Message("assistant", example.completion)]
    if system and turns[0].role not in SYSTEM_ROLES:
        turns.insert(0, Message("system", system))
    return turns


def as_dicts(turns: Sequence[Message]) -> list[dict[str, Any]]:
    """Turns as chat templates read them."""
    return [{"role": turn.role, "content": turn.content, **turn.extra} for turn in turns]


def write_chat(
    example: Example,
    system: str | None,
    tokenizer: PreTrainedTokenizerBase | None,
    openings: Sequence[Opening] = (),
) -> Conversation:
    """The example's conversation in the tokenizer's chat format, with the places of its answers.

    Args:
        example: the example; one without messages becomes a question and its answer.
        system: a system text, for conversations without one.
        tokenizer: the tokenizer with the chat template.
        openings: those that the answer may have, the preferred one first; empty for any.

    Raises:
        ConfigError: there is no chat template.
        DataError: the chat template refuses the conversation, or knows nothing of its calls.
    """
    turns = chat_messages(example, system)
    source = chat_template_of(tokenizer, tools=bool(example.tools))
    _check_calls(example, turns, source)
    writer = _Writer(example, turns, tokenizer)
    text = writer.write(turns)
    answers: list[Answer] = []
    opened, lost = None, 0
    for place in (i for i, turn in enumerate(turns) if turn.role == "assistant"):
        opened = writer.opened(place)
        found = writer.find(text, place, opened)
        if found is None and place == len(turns) - 1:
            begin = len(opened) if opened and text.startswith(opened) else len(text)
            found = Answer(begin, begin, empty=True)
        if found is None:
            lost += 1
            continue
        begin = max(found.start, answers[-1].end if answers else 0)
        answers.append(replace(found, start=begin, end=max(begin, found.end)))
    unclosed = thoughts.END in source and thoughts.unclosed(turns[-1].content)
    written = Conversation(text, tuple(answers), turns_lost=lost, unclosed=unclosed)
    if opened is None:
        return written
    written = replace(written, opening=Opening.between(opened, written.prompt))
    written = _with_thoughts(written, turns[-1], opened)
    return _opened_as(written, opened, openings)


def request_chat(turns: Sequence[Message], tokenizer: PreTrainedTokenizerBase, name: str) -> str:
    """A conversation without its answer: the turns so far, and what opens the assistant's.

    Args:
        turns: at least one.
        tokenizer: the tokenizer with the chat template.
        name: what messages call the conversation.

    Raises:
        ConfigError: there is no chat template.
        DataError: the chat template refuses the conversation, or knows nothing of its calls.
    """
    example = Example(id=name, fields={}, completion="", messages=tuple(turns))
    _check_calls(example, turns, chat_template_of(tokenizer))
    return _Writer(example, list(turns), tokenizer).write(turns, answer_next=True)


def _with_thoughts(written: Conversation, turn: Message, opened: str) -> Conversation:
    """The conversation with the thoughts of its last answer, where the template drops them.

    Such templates are for conversations that go on. A model writes its thoughts after the
    generation prompt, which may open them, and so they are learned; but not after one that says
    that there are none.
    """
    last, earlier = written.answers[-1], written.answers[:-1]
    kept = not earlier or common_length(opened, written.text) >= earlier[-1].end
    fits = kept and not opened.rstrip().endswith(thoughts.END)
    if not (last.thoughts_lost and fits and thoughts.END in turn.content):
        return written
    answer = thoughts.after_opening(turn.content, opened)
    end = len(opened) + len(answer)
    last = replace(last, start=len(opened), end=end, thoughts_lost=False, empty=False)
    text = opened + answer + written.text[written.answers[-1].end :]
    return replace(written, text=text, answers=(*earlier, last), opening=Opening(), by_hand=True)


def _opened_as(written: Conversation, opened: str, openings: Sequence[Opening]) -> Conversation:
    """The conversation with the first of some openings, unless its own is one of them."""
    if not openings or written.opening in openings:
        return written
    prompt, last = openings[0].after(opened), written.answers[-1]
    if prompt is None:
        return written
    length = last.end - last.start
    answer = replace(last, start=len(prompt), end=len(prompt) + length, learned=False)
    text = prompt + written.text[last.start :]
    return replace(
        written, text=text, answers=(answer,), opening=openings[0], by_hand=True, reopened=True
    )


@dataclass(frozen=True)
class _Writer:
    """Writes a conversation and variants of it."""

    example: Example
    turns: list[Message]
    tokenizer: Any

    def write(self, turns: Sequence[Message], *, answer_next: bool = False) -> str:
        try:
            text = self._render(turns, answer_next)
        except _TEMPLATE_ERRORS as error:
            roles = ", ".join(turn.role for turn in turns)
            raise DataError(
                f"Example '{self.example.id}': the tokenizer's chat template refuses a conversation"
                f" of {roles}: {str(error) or type(error).__name__}. Mend the conversation (and"
                " leave out the system text if the template knows none), or choose another"
                " template."
            ) from error
        assert isinstance(text, str)
        return text

    def _render(self, turns: Sequence[Message], answer_next: bool) -> Any:
        with watched(f"Example '{self.example.id}'"):
            return self.tokenizer.apply_chat_template(
                as_dicts(turns),
                tools=[dict(tool) for tool in self.example.tools] or None,
                tokenize=False,
                add_generation_prompt=answer_next,
            )

    def _try(self, turns: Sequence[Message], answer_next: bool = False) -> str | None:
        try:
            return self._render(turns, answer_next)
        except _TEMPLATE_ERRORS:
            return None

    def opened(self, place: int) -> str | None:
        """What a model is given to write this turn: the turns before it and what opens it."""
        before = self.turns[:place]
        if all(turn.role in SYSTEM_ROLES for turn in before):
            return None  # nothing was asked, and many templates cannot write that
        return self._try(before, answer_next=True)

    def find(self, text: str, place: int, opened: str | None) -> Answer | None:
        """Where a turn stands in the whole text; None when the template leaves it out."""
        turn = self.turns[place]
        opens = opened is not None and text.startswith(opened)
        body = turn.content.strip()
        if opens and body and not any(name in SPOKEN for name in turn.extra):
            # The usual case: the content follows what opens the turn, as it is.
            start = len(opened or "")
            white = len(text) - start - len(text[start:].lstrip())
            if text.startswith(body, start + white):
                return Answer(start, start + white + len(body), turn.learned)
        marked = self._marked(place)
        if marked is None:
            return None
        before, _, after = marked.partition(MARK)
        begin = common_length(text, before)
        end = len(text) - common_length(text[begin:][::-1], after[::-1])
        start = begin
        if opened is not None and opens:
            own = before[len(opened) :] if before.startswith(opened) else ""
            # An opening of the template's own, such as an empty block of thoughts, is given to the
            # model; white space may be a part of the answer's first token.
            start = begin if begin == len(before) and own.strip() else len(opened)
        if not body:
            end = self._end_of_call(text, start, end)
        lacks = thoughts.lacks_thoughts(turn.content, turn.extra, text[start:end])
        return Answer(start, max(start, end), turn.learned, lacks, empty=begin >= end)

    def _end_of_call(self, text: str, start: int, end: int) -> int:
        """Where a turn without content ends.

        Some templates (R1) end it after its calls and write an empty turn for the content. Nobody
        who stops at the end of the calls writes that.
        """
        name = turn_end(self.tokenizer).name
        first = text.find(name, start, end) if name else -1
        return end if first < 0 else first

    def _marked(self, place: int) -> str | None:
        """The conversation with a mark for a turn's content; None when the mark is not written."""
        turn = self.turns[place]
        for shown in (replace(turn, content=MARK, extra={}), replace(turn, content=MARK)):
            turns = [*self.turns[:place], shown, *self.turns[place + 1 :]]
            text = self._try(turns)
            if text is not None and MARK in text:
                return text
        return None


def _check_calls(example: Example, turns: Sequence[Message], source: str) -> None:
    """Refuse calls and tools that the template would leave out without a word."""
    found = [
        (f"turn {number}", name)
        for number, turn in enumerate(turns, start=1)
        for name in _CALLS
        if turn.extra.get(name)
    ]
    found += [("the row", "tools")] if example.tools else []
    for where, name in found:
        if name not in source:
            raise DataError(
                f"Example '{example.id}': {where} has '{name}', which the tokenizer's chat template"
                " does not write, so it would be lost. Use a tokenizer whose template knows it,"
                " write it into the content, or remove it."
            )
