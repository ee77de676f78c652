"""Reading a user's examples: JSON Lines, JSON, CSV, parquet, Arrow, a saved folder, the hub.

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

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from tutelage.data.loaded import ExampleRows, LoadedExamples, draw_positions
from tutelage.data.read import format_of, read_rows
from tutelage.data.row import Row, wrong_type
from tutelage.data.sources import Source, SourceRows, are_drawn, check_sources, shares
from tutelage.data.stored import Content, StoredExamples
from tutelage.data.turns import read_tools, read_turns, turn_content
from tutelage.errors import ConfigError, DataError, did_you_mean, unknown_name
from tutelage.proofs import fingerprint
from tutelage.types import Message

GROUP_COLUMNS = ("group", "level", "task", "category")
_EXACT = 2.0**53  # whole numbers below it are exact as floats
_ID_DIGITS = 16  # of SHA-256: two of a million different examples share one once in 40 million runs


def _digest(content: Content) -> str:
    """A hash of the content alone: the same row has the same one in every file and order."""
    turns = [turn_content(message) for message in content.messages]
    parts = [dict(content.fields), list(content.references), turns]
    tools = [list(content.tools)] if content.tools else []
    return fingerprint([*parts, *tools])[:_ID_DIGITS]


def load_examples(
    source: str | Sequence[Source],
    *,
    split: str = "train",
    limit: int | None = None,
    seed: int = 0,
    columns: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    folder: str | Path | None = None,
) -> LoadedExamples:
    """Read the examples of a file, a saved ``datasets`` folder, a hub data set, or several of them.

    Rows without an ``id`` column get an id made from their content, and exact copies among them are
    left out but named. Rows with different ids and the same content stay, and are named as well.

    Of several sources all examples are taken, in the order of the sources. Where they have weights,
    it is the most examples in these proportions (see ``sources.shares``), drawn with ``seed``.

    Args:
        source: a file (``.jsonl``, ``.json``, ``.csv``, ``.tsv``, ``.parquet``, ``.arrow``; text
            may be compressed), a folder written by ``datasets.save_to_disk``, or a hub name,
            optionally ``name:config``; or a list of ``Source``.
        split: the split to read, where the source has splits and names none.
        limit: keep this many examples, drawn without replacement with ``seed``, in file order.
        seed: seed of the draw.
        columns: further columns to keep with the examples, as text.
        names: our name of a column to the file's, as in ``{"prompt": "text"}``.
        folder: where examples are kept that are too many for memory, in a file without a name that
            goes with them; by default where the system has such files.

    Returns:
        The examples, in file order, and the duplicates of the whole source.

    Raises:
        ConfigError: ``limit`` is not positive, or the sources do not go together.
        DataError: the source is missing or malformed; the message names file and line. Or a column
            that was asked for is not there.
    """
    if limit is not None and limit < 1:
        raise ConfigError(
            f"`limit` must be at least 1, got {limit}. Leave it out to keep all rows."
        )
    sources = [Source(source)] if isinstance(source, str) else list(source)
    check_sources(sources)
    found = ExampleRows(folder)
    starts = [0]
    for one in sources:
        _add_rows(found, one, source_rows(one, split, columns, names), columns)
        starts.append(len(found))
    loaded = found.loaded()
    if len(sources) > 1:
        loaded = _mixed(loaded, sources, starts, seed)
    if limit is None or limit >= len(loaded.examples):
        return loaded
    drawn = draw_positions(random.Random(seed), len(loaded.examples), limit)
    return loaded.select(np.sort(drawn), duplicates=True)


def _mixed(
    loaded: LoadedExamples, sources: Sequence[Source], starts: Sequence[int], seed: int
) -> LoadedExamples:
    """The examples of several sources in the proportions of their weights, if they have any.

    Args:
        loaded: all examples of all sources.
        sources: the sources.
        starts: the first row of each, and the number of all.
        seed: seed of the draw.
    """
    assert isinstance(loaded.examples, StoredExamples), "they were read from sources"
    edges = loaded.examples.before(starts).tolist()
    had = [stop - start for start, stop in pairwise(edges)]
    rows = [
        SourceRows(one, count, *ends)
        for one, count, ends in zip(sources, had, pairwise(starts), strict=True)
    ]
    loaded = replace(loaded, sources=rows)
    if not are_drawn(sources):
        return loaded
    # A stream of its own for each: sources of one length would else give the same places, and
    # translations of one data set the same questions.
    drawn = [
        start + np.sort(draw_positions(random.Random(f"source {number} {seed}"), count, size))
        for number, (start, count, size) in enumerate(
            zip(edges, had, shares(sources, had), strict=False)
        )
    ]
    return loaded.select(np.concatenate(drawn), duplicates=True)


def source_rows(
    source: Source, split: str, columns: Sequence[str] = (), names: Mapping[str, str] | None = None
) -> Iterator[Row]:
    """The rows of one of several sources, of the split that it names.

    Args:
        source: the source.
        split: the split to read where the source names none.
        columns: see :func:`named_rows`, and so is the other.
        names: our name of a column to the file's.

    Raises:
        DataError: as :func:`named_rows`; or a split is named of a file that has none.
    """
    path = Path(source.path).expanduser()
    if source.split and path.is_file() and format_of(path) != ".json":
        raise DataError(
            f"'{source.path}' is a file without splits, so there is no '{source.split}' in it."
            " Leave `split` out, or name the folder."
        )
    yield from named_rows(source.path, source.split or split, columns, names)


def named_rows(
    source: str, split: str, columns: Sequence[str] = (), names: Mapping[str, str] | None = None
) -> Iterator[Row]:
    """The rows of a source, with columns under the names that they have here.

    Args:
        source: see :func:`load_examples`, and so are the others.
        split: the split to read.
        columns: further columns that are wanted.
        names: our name of a column to the file's.

    Raises:
        ConfigError: a name of ours is none.
        DataError: the source is missing or malformed, or has no such column.
    """
    names = names or {}
    for ours in names:
        if ours not in KNOWN_COLUMNS:
            raise unknown_name("column of an example", ours, KNOWN_COLUMNS)
    wanted = (*KNOWN_COLUMNS, *columns, *names.values())
    for number, row in enumerate(read_rows(source, split, wanted)):
        yield _renamed(row, names, strict=number == 0) if names else row


def _renamed(row: Row, names: Mapping[str, str], strict: bool) -> Row:
    """The row with some columns under our names, in place of any that were called so."""
    columns = {name: value for name, value in row.columns.items() if name not in names}
    for ours, theirs in names.items():
        if theirs in row.columns:
            columns[ours] = row.columns[theirs]
        elif strict:
            raise DataError(
                f"{row.where}: there is no column '{theirs}', which is to be `{ours}`"
                f" (data.columns).{did_you_mean(theirs, row.found)} The columns are"
                f" {', '.join(row.found)}."
            )
    return Row(row.where, columns, row.found)


def _add_rows(
    found: ExampleRows, source: Source, rows: Iterable[Row], extra: Sequence[str]
) -> None:
    """Read what the rows of a source say; they have one shape."""
    shape: _Shape | None = None
    for row in rows:
        shape = shape or find_shape(row)
        content = shape.content(row)
        own_id = _own_id(row)
        columns = _further_columns(row, extra)
        group = _group(row) or source.group
        found.add(own_id, content, _digest(content), row.where, group, columns)
    if shape is None:
        raise no_rows(source)


def no_rows(source: Source) -> DataError:
    """The error for a source without rows."""
    return DataError(
        f"'{source.title}' has no rows, so there is nothing to learn from. Add examples."
    )


def _further_columns(row: Row, names: Sequence[str]) -> dict[str, str]:
    """Columns that somebody asked for by name, as text."""
    for name in names:
        if name not in row.columns:
            raise DataError(
                f"{row.where}: there is no column '{name}'.{did_you_mean(name, row.found)} The"
                f" columns are {', '.join(row.found)}."
            )
    return {name: str(row.columns[name]) for name in names}


def _own_id(row: Row) -> str | None:
    """The row's own id as text; None when it has none."""
    value = row.columns.get("id")
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        value = int(value)  # pandas makes numbers with a gap among them fractional
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise wrong_type(row, "id", value, "text or a whole number")
    if not str(value).strip():
        raise DataError(
            f"{row.where}: the column 'id' is empty. Give the row an id, or remove the column: ids"
            " are then made from the content."
        )
    return str(value)


def _group(row: Row) -> str:
    """The label of the first group column that the row has; empty when there is none."""
    for column in GROUP_COLUMNS:
        value = row.columns.get(column)
        if value is not None:
            if not isinstance(value, str | int | float):
                raise wrong_type(row, column, value, "text or a number")
            return str(value)
    return ""


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
class _Shape:
    """A set of columns that makes an example, and how."""

    required: tuple[str, ...]
    build: Callable[[Row], Content]

    @property
    def name(self) -> str:
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
    _Shape(("messages",), _from_messages),
    _Shape(("conversations",), _from_conversations),
    _Shape(("prompt", "completion"), _from_prompt),
    _Shape(("instruction", "output"), _from_instruction),
    _Shape(("question", "answer"), _from_question),
)
KNOWN_COLUMNS = (
    *(column for shape in _SHAPES for column in shape.required),
    "input",
    "system",
    "tools",
    "id",
    *GROUP_COLUMNS,
)


def find_shape(row: Row) -> _Shape:
    """The first shape whose columns the row has."""
    for shape in _SHAPES:
        if all(column in row.columns for column in shape.required):
            return shape
    accepted = "; ".join(shape.name for shape in _SHAPES)
    found = ", ".join(row.found) or "none"
    raise DataError(
        f"{row.where}: these columns make no example. Found: {found}. Accepted: {accepted}."
        " Rename or add columns, or say which is which, as in data.columns: {prompt: text,"
        " completion: code}."
    )
