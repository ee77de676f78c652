"""What models and data say of themselves: sizes, tokens, columns, lengths, and what answers are."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.data import ends_alike, tokenize_examples
from tutelage.data.load import KNOWN_COLUMNS, find_shape, load_examples
from tutelage.data.loaded import draw_positions
from tutelage.data.read import format_of, read_rows
from tutelage.data.row import Row
from tutelage.errors import ConfigError, DataError, ModelError
from tutelage.models import (
    ModelSize,
    check_same_tokenizer,
    describe_model,
    keep_layers,
    load_config,
    load_tokenizer,
)
from tutelage.models.load import skeleton
from tutelage.models.places import find_model, local_place
from tutelage.models.positions import Positions, positions_of
from tutelage.pipeline.context.display import Display
from tutelage.pipeline.stages.metric import fitting_metric

ROWS = 2000
"""Examples that are tokenized, drawn at random."""

_QUESTIONS = (
    "prompt", "question", "instruction", "query", "problem", "input", "context", "source", "src",
    "user", "request", "task", "text", "article", "document", "en", "sentence",
)  # fmt: skip
_ANSWERS = (
    "completion", "answer", "output", "response", "solution", "target", "tgt", "chosen",
    "assistant", "reply", "label", "summary", "highlights", "code", "canonical_solution",
)  # fmt: skip


@dataclass(frozen=True)
class SeenModel:
    """A model as its configuration says.

    Attributes:
        name: as it goes into the recipe.
        size: how big it is.
        positions: how long a text it reads.
        chats: whether its tokenizer has a chat template.
    """

    name: str
    size: ModelSize
    positions: Positions
    chats: bool


@dataclass(frozen=True)
class SeenData:
    """The user's data, looked through.

    Attributes:
        train: the file, folder or hub name.
        validation: the same for validation; None to hold some out.
        test: likewise.
        form: its format.
        shape: the columns that make an example.
        columns: our names of columns to the file's, where they had to be guessed.
        rows: examples, copies left out.
        copies: how many were.
        total: quantiles of the tokens of prompt and answer, by their shares.
        prompt: the same of prompts.
        answer: the same of answers.
        metric: a metric that fits the answers, with its reason; None where none stands out.
        template: the template that ``auto`` comes to.
        sample: a question and its answer.
        test_rows: examples of the test file; None without one.
    """

    train: str
    validation: str | None
    test: str | None
    form: str
    shape: str
    columns: Mapping[str, str]
    rows: int
    copies: int
    total: Mapping[float, int]
    prompt: Mapping[float, int]
    answer: Mapping[float, int]
    metric: tuple[str, str] | None
    template: str
    sample: tuple[str, str]
    test_rows: int | None = None


@dataclass(frozen=True)
class Seen:
    """All that a recipe is proposed from.

    Attributes:
        teacher: the teacher.
        student: the student, after it is cut.
        layers: how many of the teacher's layers it keeps; None for a model of its own.
        foreign: why the models' distributions cannot be compared; None where they can.
        data: the data.
    """

    teacher: SeenModel
    student: SeenModel
    layers: int | None
    foreign: str | None
    data: SeenData


def look(
    teacher: str,
    student: str | None,
    layers: int | None,
    data: str,
    *,
    validation: str | None = None,
    test: str | None = None,
    display: Display | None = None,
) -> Seen:
    """Look at two models and at data, without loading a weight.

    Args:
        teacher: a folder, hub name, .gguf file or ``embedded:NAME``.
        student: the same; None for some layers of the teacher.
        layers: how many.
        data: training data, as ``data.train``.
        validation: as ``data.validation``.
        test: as ``data.test``.
        display: shows progress.

    Raises:
        ConfigError: neither or both of ``student`` and ``layers``, or more layers than there are.
        ModelError: a model is missing or broken.
        DataError: data are missing, broken, or make no examples.
    """
    if (student is None) == (layers is None):
        raise ConfigError(
            "Give the student as --student MODEL, or as --layers N: so many layers of the teacher."
        )
    display = display or Display(quiet=True)
    with display.task("Looking at the models"):
        teacher_seen, teacher_tokens = _model(teacher)
        student_seen, tokens = _model(student or teacher, layers)
        foreign = None
        if student is not None:
            try:
                alike = ends_alike(teacher_tokens, tokens)
                check_same_tokenizer(teacher_tokens, tokens, ends_alike=alike)
            except ModelError as error:
                foreign = str(error)
    with display.task("Looking at the data"):
        found = look_at_data(data, tokens, validation=validation, test=test)
    return Seen(teacher_seen, student_seen, layers, foreign, found)


def _model(name: str, layers: int | None = None) -> tuple[SeenModel, Any]:
    found = find_model(name)
    local_place(found)  # a path where nothing is, is said as one
    config, tokenizer = load_config(found), load_tokenizer(found)
    if layers is not None:
        config = keep_layers(skeleton(config), layers).config
    seen = SeenModel(
        name, describe_model(config), positions_of(config), bool(tokenizer.chat_template)
    )
    return seen, tokenizer


def look_at_data(
    source: str, tokenizer: Any, *, validation: str | None = None, test: str | None = None
) -> SeenData:
    """Columns, rows, lengths and answers of the data.

    Args:
        source: the training data.
        tokenizer: the student's.
        validation: validation data, read to see that they can be.
        test: test data, likewise.

    Raises:
        DataError: something is missing, broken, or makes no examples.
    """
    columns = guess_columns(source)
    loaded = load_examples(source, names=columns)
    others = {
        split: load_examples(path, split=split, names=columns)
        for split, path in (("validation", validation), ("test", test))
        if path is not None
    }
    count = len(loaded.examples)
    some = loaded
    if count > ROWS:
        places = draw_positions(random.Random(0), count, ROWS)
        some = loaded.select(np.sort(places), duplicates=False)
    long = 10**9
    tokenized = tokenize_examples(some, tokenizer, max_length=long, max_prompt_length=long)
    rows = tokenized.dataset
    total, prompt = (np.asarray(rows[name]) for name in ("num_tokens", "num_prompt_tokens"))
    first = loaded.examples[0]
    judged = others.get("test", loaded)
    references = [
        example.references or (example.completion,)
        for example in itertools.islice(judged.examples, 200)
    ]
    row = next(iter(read_rows(source, "train", (*KNOWN_COLUMNS, *columns.values()))))
    asked = "\n".join(text for text in first.fields.values() if text)
    return SeenData(
        source,
        validation,
        test,
        format_of_source(source),
        " + ".join(columns.values()) or find_shape(row).name,
        columns,
        count,
        len(loaded.duplicates),
        _quantiles(total),
        _quantiles(prompt),
        _quantiles(total - prompt),
        fitting_metric(references),
        tokenized.summary["template"],
        (asked, first.completion),
        None if test is None else len(others["test"].examples),
    )


def _quantiles(values: Any) -> dict[float, int]:
    return {q: int(np.quantile(values, q, method="higher")) for q in (0.5, 0.9, 0.99, 1.0)}


def format_of_source(source: str) -> str:
    """What a source is, in a word."""
    path = Path(source).expanduser()
    if path.is_dir():
        return "folder"
    return format_of(path) if path.is_file() else "hub"


def guess_columns(source: str) -> dict[str, str]:
    """Which columns of a source are question and answer, where they are not called as usual.

    Args:
        source: a file, folder or hub name.

    Returns:
        Our names to the file's; empty where the file's own do.

    Raises:
        DataError: the source is missing or broken, or no columns look like a question and an
            answer; the message names the columns that there are.
    """
    row = next(iter(read_rows(source, "train", KNOWN_COLUMNS)), None)
    if row is None:
        raise DataError(f"'{source}' has no rows, so there is nothing to learn from. Add examples.")
    try:
        find_shape(row)
    except DataError as error:
        found = _guessed(row)
        if found is None:
            raise DataError(
                f"{error} (In a recipe: data.columns; a look at the names told nothing.)"
            ) from error
        return found
    return {}


def _guessed(row: Row) -> dict[str, str] | None:
    by_name = {name.lower().strip(): name for name in row.found}
    question = _first(_QUESTIONS, by_name)
    answer = _first(_ANSWERS, by_name)
    if question is None or answer is None or question == answer:
        return None
    return {"prompt": question, "completion": answer}


def _first(names: Sequence[str], there: Mapping[str, str]) -> str | None:
    return next((there[name] for name in names if name in there), None)
