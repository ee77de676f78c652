"""Which columns of a file are question and answer, by their names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tutelage.data.read import read_rows
from tutelage.data.row import Row
from tutelage.data.shapes import KNOWN_COLUMNS, find_shape
from tutelage.errors import DataError

_QUESTIONS = (
    "prompt", "question", "instruction", "query", "problem", "input", "context", "source", "src",
    "user", "request", "task", "text", "article", "document", "en", "sentence",
)  # fmt: skip
_ANSWERS = (
    "completion", "answer", "output", "response", "solution", "target", "tgt", "chosen",
    "assistant", "reply", "label", "summary", "highlights", "code", "canonical_solution",
)  # fmt: skip


@dataclass(frozen=True)
class SeenColumns:
    """What the columns of a source are.

    Attributes:
        names: our names to the file's; empty where the file's own do.
        shape: the columns that make an example, for people.
    """

    names: Mapping[str, str]
    shape: str


def look_at_columns(
    source: str, split: str = "train", usual: Mapping[str, str] | None = None
) -> SeenColumns:
    """Which columns of a source are question and answer, where they are not called as usual.

    Args:
        source: a file, folder or hub name.
        split: the split to look at.
        usual: names of columns of a source beside it, which count here too if all are there.

    Raises:
        DataError: the source is missing or broken, or no columns look like a question and an
            answer; the message names the columns that there are.
    """
    row = next(read_rows(source, split, KNOWN_COLUMNS), None)
    if row is None:
        raise DataError(f"'{source}' has no rows, so there is nothing to learn from. Add examples.")
    names: Mapping[str, str] = {}
    if usual and set(usual.values()) <= set(row.found):
        names = usual
    else:
        try:
            return SeenColumns({}, find_shape(row).name)
        except DataError as error:
            guessed = _guessed(row)
            if guessed is None:
                raise DataError(
                    f"{error} (In a recipe: data.columns; a look at the names told nothing.)"
                ) from error
            names = guessed
    return SeenColumns(names, " + ".join(names.values()))


def _guessed(row: Row) -> dict[str, str] | None:
    by_name = {name.lower().strip(): name for name in row.found}
    question = _first(_QUESTIONS, by_name)
    answer = _first(_ANSWERS, by_name)
    if question is None or answer is None or question == answer:
        return None
    return {"prompt": question, "completion": answer}


def _first(names: Sequence[str], there: Mapping[str, str]) -> str | None:
    return next((there[name] for name in names if name in there), None)
