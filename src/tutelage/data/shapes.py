"""Shapes of a row: which of its columns make an example, and what it then says.

A file has one row shape, decided by the columns of its first row, in this fixed order:

1. ``messages`` or ``conversations``: a list of ``{"role", "content"}``, or of ``{"from", "value"}``
   as in ShareGPT, that ends with the assistant's turn; a column ``system`` may stand beside it;
2. ``prompt`` + ``completion``: two texts, or two lists of messages;
3. ``instruction`` (+ ``input``) + ``output``;
4. ``question`` + ``answer``.

An answer column may hold a list of accepted answers: the first one is learned, all count in
evaluation. ``id`` names an example; the first of ``group``, ``level``, ``task`` and ``category``
that exists labels it. Every other column is ignored. A mapping of names says which column of the
file is meant where its own are called otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tutelage.data.row import Row, wrong_type
from tutelage.data.stored import Content
from tutelage.data.turns import read_tools, read_turns
from tutelage.errors import DataError
from tutelage.types import Message

GROUP_COLUMNS = ("group", "level", "task", "category")


def _text(row: Row, column: str) -> str:
    """The text in a column that must not be empty."""
    value = row.columns[column]
    if value is not None and not isinstance(value, str):
        raise wrong_type(row, column, value, "text")
    if value is None or not value.strip():
        raise DataError(f"{row.where}: the column '{column}' is empty. Fill it or remove the row.")
    return value


def _answers(row: Row, column: str) -> tuple[str, ...]:
    """The accepted answers in a column: one text, or a list of texts."""
    value = row.columns[column]
    if not isinstance(value, list):
        return (_text(row, column),)
    if not value or not all(isinstance(answer, str) and answer.strip() for answer in value):
        raise wrong_type(row, column, value, "a text or a list of texts that are not empty")
    return tuple(value)


def _conversation(row: Row, turns: tuple[Message, ...]) -> Content:
    """A conversation that ends with an answer of the assistant to something."""
    answer = turns[-1] if turns else Message("", "")
    says = bool(answer.content.strip())
    if answer.role != "assistant" or not (says or answer.extra.get("tool_calls")):
        raise DataError(
            f"{row.where}: the conversation must end with a message of the assistant that is not"
            " empty, because that is the answer to learn. Remove the last turn or the row."
        )
    asked = [turn.content for turn in turns if turn.role == "user"]
    if not asked:
        raise DataError(
            f"{row.where}: the conversation has no message of the user, so the answer has no"
            " prompt. Add one or remove the row."
        )
    # What a call alone looks like as text, only the chat template knows.
    references = (answer.content,) if says else ()
    return Content({"prompt": asked[-1]}, references, turns, read_tools(row))


def _from_messages(row: Row) -> Content:
    return _conversation(row, _with_system(row, read_turns(row, "messages")))


def _from_conversations(row: Row) -> Content:
    return _conversation(row, _with_system(row, read_turns(row, "conversations")))


def _with_system(row: Row, turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """A conversation whose system text has a column of its own begins with it."""
    if row.columns.get("system") is None or row.columns["system"] == "":
        return turns
    begins = bool(turns) and turns[0].role in ("system", "developer")
    return turns if begins else (Message("system", _text(row, "system")), *turns)


def _from_prompt(row: Row) -> Content:
    # Under `completion`, a list of texts is a list of references; one of objects, a conversation.
    completion = row.columns["completion"]
    if isinstance(row.columns["prompt"], list):
        return _conversation(row, read_turns(row, "prompt") + read_turns(row, "completion"))
    if isinstance(completion, list) and any(isinstance(turn, Mapping) for turn in completion):
        raise wrong_type(row, "completion", completion, "a text, like the prompt,")
    return Content({"prompt": _text(row, "prompt")}, _answers(row, "completion"))


def _from_instruction(row: Row) -> Content:
    given = row.columns.get("input")
    if given is not None and not isinstance(given, str):
        raise wrong_type(row, "input", given, "text")
    fields = {"instruction": _text(row, "instruction"), "input": given or ""}
    return Content(fields, _answers(row, "output"))


def _from_question(row: Row) -> Content:
    return Content({"question": _text(row, "question")}, _answers(row, "answer"))


@dataclass(frozen=True)
class Shape:
    """A set of columns that makes an example, and how."""

    required: tuple[str, ...]
    build: Callable[[Row], Content]

    @property
    def name(self) -> str:
        """Its columns."""
        return " + ".join(self.required)

    def content(self, row: Row) -> Content:
        """What a row of this shape says.

        Raises:
            DataError: the row is of another shape, or a value does not fit.
        """
        missing = [column for column in self.required if column not in row.columns]
        if missing:
            raise DataError(
                f"{row.where}: the column '{missing[0]}' is missing; the first row has the shape"
                f" {self.name}, and a file has one shape. Found: {', '.join(row.found) or 'none'}."
                " Add the column or remove the row."
            )
        return self.build(row)


_SHAPES = (
    Shape(("messages",), _from_messages),
    Shape(("conversations",), _from_conversations),
    Shape(("prompt", "completion"), _from_prompt),
    Shape(("instruction", "output"), _from_instruction),
    Shape(("question", "answer"), _from_question),
)
KNOWN_COLUMNS = (
    *(column for shape in _SHAPES for column in shape.required),
    "input",
    "system",
    "tools",
    "id",
    *GROUP_COLUMNS,
)


def find_shape(row: Row) -> Shape:
    """The first shape whose columns the row has."""
    for shape in _SHAPES:
        if all(column in row.columns for column in shape.required):
            return shape
    accepted = "; ".join(shape.name for shape in _SHAPES)
    found = ", ".join(row.found) or "none"
    raise DataError(
        f"{row.where}: these columns make no example. Found: {found}. Accepted: {accepted}."
        " Rename or add columns, or say which is which, as in columns: {prompt: text, completion:"
        " code}, which data, a source of them or a suite may have."
    )
