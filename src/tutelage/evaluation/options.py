"""Questions with options, in the ways in which files write them down."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.data.row import Row
from tutelage.errors import DataError
from tutelage.evaluation.reading import Entry, Layout

LETTERS = "ABCDEFGHIJ"
"""How options are named in prompts, whatever a file calls them, and what `choice` can read."""

YES_NO = ("yes", "no")

_SPREAD = (
    ("A", "B", "C", "D", "E", "F", "G", "H", "I", "J"),
    tuple(f"option_{letter}" for letter in "abcdefghij"),
    tuple(f"op{letter}" for letter in "abcde"),
    tuple(f"option{number}" for number in range(1, 11)),
    tuple(f"choice{number}" for number in range(1, 11)),
    tuple(f"ending{number}" for number in range(10)),
    tuple(f"answer{number}" for number in range(10)),
    ("sol1", "sol2"),
)
"""Columns of files that have one for each option, in their order."""

LAYOUT = Layout(
    "choice",
    {
        "question": ("question", "stem", "query", "problem", "prompt", "goal", "ctx", "sentence"),
        "answer": (
            "answer", "answerKey", "answer_key", "label", "correct", "correct_answer", "gold",
            "target", "cop", "answer_idx", "answer_index", "correct_option",
        ),
    },
    {
        "options": ("options", "choices", "candidates", "endings", "answers"),
        "passage": ("passage", "context", "article", "paragraph", "story", "support"),
        "group": ("group", "subject", "task", "category", "level", "topic"),
        **{name: (name,) for names in _SPREAD for name in names},
    },
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """A question with its options.

    Attributes:
        entry: its row.
        question: what is asked.
        options: texts, two to ten.
        right: which of them is right.
        passage: what it is about; empty for none.
        reasons: why the right one is right, for questions that are shown solved.
    """

    entry: Entry
    question: str
    options: tuple[str, ...]
    right: int
    passage: str = ""
    reasons: str = ""

    @property
    def yes_or_no(self) -> bool:
        """Whether its options are yes and no, which need no letters."""
        return self.options == YES_NO


def choice_of(entry: Entry) -> Choice:
    """The question of a row.

    Raises:
        DataError: it has no options, too many, or no right one among them.
    """
    if isinstance(entry.value("question"), Mapping):  # as ARC is distributed
        inner = {**entry.value("question"), "answerKey": entry.value("answer")}
        row = Row(entry.row.where, {**entry.row.columns, **inner}, tuple(inner))
        row.columns.pop(entry.names["question"])
        group = {ours: name for ours, name in entry.names.items() if ours == "group"}
        entry = Entry(row, {**LAYOUT.entry(row).names, **group})
    labels, options = _options(entry)
    return Choice(
        entry,
        entry.text("question").strip(),
        options,
        _right(entry, labels, options),
        entry.text("passage", empty=True).strip(),
    )


def check_numbers_alike(choices: Sequence[Choice]) -> None:
    """Refuse a file whose answers are numbers, some of which are places and others values.

    Args:
        choices: its questions.

    Raises:
        DataError: of one answer the number is no place among the options and was found among their
            texts, while that of another was taken for a place.
    """
    found = [(one, one.entry.value("answer")) for one in choices if not one.yes_or_no]
    found = [(one, n) for one, n in found if isinstance(n, int) and not isinstance(n, bool)]
    values = [(one, n) for one, n in found if not 0 <= n < len(one.options)]
    places = [
        (one, n) for one, n in found if 0 <= n < len(one.options) and one.options[n] != str(n)
    ]
    places = [(one, n) for one, n in places if one.right == n and str(n) in one.options]
    if values and places:
        (place, n), (value, m) = places[0], values[0]
        raise DataError(
            f"{place.entry.row.where}: the answer {n} is the text of an option and the place of"
            f" another one, counted from 0. {value.entry.row.where}: it is the text, since {m} is"
            " no place. Write answers as letters, or as texts."
        )


def _options(entry: Entry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Labels and texts of the options."""
    value = entry.value("options")
    if isinstance(value, str) and re.match(r"\s*[\[{]", value):
        raise entry.wrong("options", "a list of texts, not one as text,")
    if value is None:
        return _spread(entry)
    if isinstance(value, Mapping):
        texts = value.get("text")
        if isinstance(texts, Sequence) and not isinstance(texts, str):  # columns of a data set
            return _labelled(entry, value.get("label") or LETTERS[: len(texts)], texts)
        return _labelled(entry, list(value), list(value.values()))
    if not isinstance(value, list):
        raise entry.wrong("options", "a list of texts, or labels with texts,")
    if all(isinstance(one, Mapping) for one in value):
        labels = [one.get("label", LETTERS[n % len(LETTERS)]) for n, one in enumerate(value)]
        return _labelled(entry, labels, [one.get("text") for one in value])
    return _labelled(entry, LETTERS[: len(value)], value)


def _spread(entry: Entry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Options in columns of their own; yes and no where the answer is that."""
    for names in _SPREAD:
        there = [name for name in names if entry.value(name) not in (None, "")]
        if len(there) >= 2 and there == list(names[: len(there)]):
            labels = there if names == _SPREAD[0] else LETTERS[: len(there)]
            return _labelled(entry, labels, [entry.text(name) for name in there])
    answer = entry.value("answer")
    if isinstance(answer, bool) or str(answer).strip().lower() in ("yes", "no", "true", "false"):
        return YES_NO, YES_NO
    raise DataError(
        f"{entry.row.where}: there are no options: none of the columns"
        f" {', '.join(LAYOUT.optional['options'])}, nor one for each of them (A, B, C or option_a,"
        " option_b), and the answer is not yes or no. The columns are"
        f" {', '.join(entry.row.found) or 'none'}. Rename what is called otherwise."
    )


def _labelled(
    entry: Entry, labels: Sequence[Any], texts: Sequence[Any]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not 2 <= len(texts) <= len(LETTERS):
        raise DataError(
            f"{entry.row.where}: {len(texts)} options, and a question needs two to"
            f" {len(LETTERS)} of them. Mend or remove the row."
        )
    if len(labels) != len(texts) or not all(isinstance(t, str | int | float) for t in texts):
        raise entry.wrong("options", "a text for each option")
    written = tuple(str(text).strip() for text in texts)
    if not all(written):
        raise DataError(f"{entry.row.where}: an option is empty. Fill it or remove the row.")
    return tuple(map(str, labels)), written


def _right(entry: Entry, labels: Sequence[str], options: Sequence[str]) -> int:
    """Which option is right: by its label, its text, or its number from 0."""
    answer = entry.value("answer")
    if isinstance(answer, bool) or (options == YES_NO and isinstance(answer, int)):
        answer = "yes" if answer else "no"
    text = str(answer).strip()
    if options == YES_NO:
        text = {"true": "yes", "false": "no"}.get(text.lower(), text.lower())
    bare = text.strip("().: ")
    numbered = bare.isdecimal() and int(bare) < len(options)
    numbered = numbered and not any(label.isdecimal() for label in labels)
    if numbered and isinstance(answer, int):  # before texts, which may be numbers as well
        return int(bare)
    for names in (labels, options):
        found = [place for place, name in enumerate(names) if name in (text, bare)]
        if len(found) == 1:
            return found[0]
    if numbered:
        return int(bare)
    raise DataError(
        f"{entry.row.where}: the answer '{text[:60]}' is none of the options: neither a label"
        f" ({', '.join(labels)}), nor a text among them, nor a number from 0 to {len(options) - 1}."
        " Mend or remove the row."
    )
