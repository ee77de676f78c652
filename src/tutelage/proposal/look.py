"""What models and data say of themselves: sizes, tokens, columns, lengths, and what answers are."""

import itertools
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.data import ends_alike, tokenize_examples
from tutelage.data.load import load_examples
from tutelage.data.loaded import draw_positions
from tutelage.data.read import format_of
from tutelage.data.sources import Source
from tutelage.errors import ConfigError, ModelError
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
from tutelage.proposal.columns import SeenColumns, look_at_columns

ROWS = 2000
"""Examples that are tokenized, drawn at random."""


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
        train: files, folders or hub names; with columns of their own where they are called
            otherwise than in ``columns``.
        validation: the same for validation; None to hold some out.
        test: likewise.
        form: their formats.
        shape: the columns that make an example.
        columns: our names of columns to the files', where they had to be guessed.
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

    train: tuple[Source, ...]
    validation: Source | None
    test: Source | None
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
    data: str | Sequence[str],
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
        data: training data, as ``data.train``: one source, or several.
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
        data = [data] if isinstance(data, str) else data
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
    paths: Sequence[str], tokenizer: Any, *, validation: str | None = None, test: str | None = None
) -> SeenData:
    """Columns, rows, lengths and answers of the data.

    Args:
        paths: the training data.
        tokenizer: the student's.
        validation: validation data, read to see that they can be.
        test: test data, likewise.

    Raises:
        DataError: something is missing, broken, or makes no examples.
    """
    first_seen = look_at_columns(paths[0])
    columns = first_seen.names
    seen = [first_seen, *(look_at_columns(path, usual=columns) for path in paths[1:])]
    sources = tuple(_source(path, one, columns) for path, one in zip(paths, seen, strict=True))
    loaded = load_examples(sources, names=columns)
    apart = {
        split: _source(path, look_at_columns(path, split, columns), columns)
        for split, path in (("validation", validation), ("test", test))
        if path is not None
    }
    others = {
        split: load_examples([one], split=split, names=columns) for split, one in apart.items()
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
    asked = "\n".join(text for text in first.fields.values() if text)
    return SeenData(
        sources,
        apart.get("validation"),
        apart.get("test"),
        ", ".join(dict.fromkeys(map(format_of_source, paths))),
        " and ".join(dict.fromkeys(one.shape for one in seen)),
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


def _source(path: str, seen: SeenColumns, columns: Mapping[str, str]) -> Source:
    """A source, with columns of its own where they are not those of all."""
    return Source(path, columns=None if seen.names == columns else seen.names)


def format_of_source(source: str) -> str:
    """What a source is, in a word."""
    path = Path(source).expanduser()
    if os.path.isdir(path):
        return "folder"
    return format_of(path) if os.path.isfile(path) else "hub"
