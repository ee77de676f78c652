"""What a caller may hand to the trainer: made into what it works with, or refused in a message."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from torch import nn

from tutelage.data.lengths import flat, list_lengths, stored_texts
from tutelage.errors import ConfigError, DataError, ModelError
from tutelage.ids import Ids
from tutelage.models import load_model
from tutelage.models.head import causal_lm, head_size
from tutelage.models.shards import is_part
from tutelage.teachers import TeacherLadder
from tutelage.training.arguments import refuse_against_plan
from tutelage.training.config import DistillConfig
from tutelage.types import Plan

COLUMNS = ("id", "input_ids", "labels", "teacher")
"""What the trainer reads of a row; all but the token ids and labels may be missing."""

_NOT_A_LABEL = -100
_MASK = "attention_mask"


@dataclass(frozen=True)
class Given:
    """What the trainer works with.

    Attributes:
        student: the student.
        teacher: a model, a signal, one of them for each name, or None.
        rows: the training data.
        ids: their ids; their numbers when they have none.
        writers: who wrote the answer of each row; None when rows do not tell.
        vocab_size: number of tokens over which student and teacher are compared.
    """

    student: Any
    teacher: Any
    rows: datasets.Dataset
    ids: Ids
    writers: Ids | None
    vocab_size: int


def given_inputs(
    model: Any, args: Any, rows: Any, teacher: Any, plan: Plan | None, vocab_size: int | None
) -> Given:
    """The arguments of ``DistillTrainer``, checked.

    Raises:
        ConfigError: settings of another trainer, or against the plan; something that is no model.
        ModelError: a model cannot be loaded, or learns by prompt tuning.
        DataError: rows that cannot be addressed or learned from.
    """
    if not isinstance(args, DistillConfig):
        raise ConfigError(
            f"`args` is a {type(args).__name__}, and a distillation needs a DistillConfig, which is"
            " TrainingArguments with the settings of the loss: pass tutelage.DistillConfig(...)."
        )
    if plan is not None:
        refuse_against_plan(args)
    student, teacher = _given_model(model, "student"), _given_teachers(teacher)
    rows = addressed_rows(rows, "train_dataset")
    vocab_size = _common_vocabulary(student, teacher, vocab_size)
    ids = stored_texts(rows, "id") if "id" in rows.column_names else _numbered(len(rows))
    _check_rows(rows, ids, student, teacher, vocab_size)
    writers = stored_texts(rows, "teacher") if "teacher" in rows.column_names else None
    return Given(student, teacher, rows, ids, writers, vocab_size)


def _numbered(count: int) -> Ids:
    """Numbers as ids."""
    return Ids(pa.array(np.arange(count)).cast(pa.large_string()))


# ---- models ----------------------------------------------------------------------------------


def _given_model(model: Any, owner: str) -> Any:
    """A model as it was given, or loaded in float32 when it was given by its name.

    Args:
        model: a causal language model, or what ``load_model`` takes.
        owner: "student" or "teacher", for messages.

    Raises:
        ConfigError: it is neither.
        ModelError: it learns by prompt tuning, or cannot be loaded.
    """
    if isinstance(model, str):
        model = load_model(model)
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"The {owner} is given as {type(model).__name__}, which is no model. Pass a causal"
            " language model, such as tutelage.models.load_model gives, or its name."
        )
    if any(map(is_part, model.parameters())):
        raise ConfigError(
            f"The weights of the {owner} are cut over processes already (tensor parallel, FSDP),"
            " and the loss reads its whole head. Give a whole model; DistillConfig(shard=...) cuts"
            " it so that the loss knows."
        )
    adapters = getattr(model, "peft_config", None)
    if isinstance(adapters, Mapping):
        for adapter in adapters.values():
            if getattr(adapter, "is_prompt_learning", False):
                raise ModelError(
                    f"The {owner} has an adapter of type {adapter.peft_type}, which puts tokens of"
                    " its own before the text, so its hidden states are at other positions than"
                    " the labels. Use LoRA, or another adapter that leaves the text as it is."
                )
    return model


def _given_teachers(teacher: Any) -> Any:
    """Teachers as they were given, and those that were given by name loaded."""
    if isinstance(teacher, TeacherLadder):
        return teacher
    if isinstance(teacher, Mapping):
        return {name: _given_teachers(one) for name, one in teacher.items()}
    return _given_model(teacher, "teacher") if isinstance(teacher, nn.Module | str) else teacher


def _common_vocabulary(student: nn.Module, teacher: Any, asked: int | None) -> int:
    """Number of tokens over which student and teachers are compared.

    Args:
        student: the student.
        teacher: what the trainer was given as its teachers.
        asked: what the caller says; None takes the smallest that is known.

    Raises:
        ConfigError: a head has fewer rows than asked for, or a signal is over another number.
    """
    teachers = teacher if isinstance(teacher, Mapping) else {"teacher": teacher}
    lazy = isinstance(teacher, TeacherLadder)
    models = {"student": student, **({} if lazy else teachers)}
    heads = {name: head_size(one) for name, one in models.items() if isinstance(one, nn.Module)}
    signals = {} if lazy else {name: _signal_size(one) for name, one in teachers.items()}
    fixed = {name: size for name, size in signals.items() if size is not None}
    size = asked if asked is not None else min([*heads.values(), *fixed.values()])
    for name, rows in heads.items():
        if rows < size:
            raise ConfigError(
                f"vocab_size={size:,} is asked for, and the head of {_named(name)} has {rows:,}"
                " rows. Leave vocab_size out, or give the number of tokens of the tokenizer."
            )
    for name, width in fixed.items():
        if width != size:
            raise ConfigError(
                f"The signal of {_named(name)} is over {width:,} tokens, and the loss over"
                f" {size:,}. Pass vocab_size={width} if that is the size of the tokenizer, or make"
                " the signal with the other."
            )
    return size


def _named(name: str) -> str:
    return f"the {name}" if name in ("student", "teacher") else f"the teacher '{name}'"


def _signal_size(signal: Any) -> int | None:
    """Over how many tokens a signal says something; None where it does not tell."""
    store = getattr(signal, "store", None)
    size = store.manifest["vocab_size"] if store is not None else None
    return size if size is not None else getattr(signal, "vocab_size", None)


# ---- rows ------------------------------------------------------------------------------------


def addressed_rows(rows: Any, name: str) -> datasets.Dataset:
    """Rows as a data set, from whatever can be read by number.

    Args:
        rows: a ``datasets.Dataset``, a list of mappings, or a map-style ``torch`` data set.
        name: the argument, for messages.

    Raises:
        DataError: they cannot be addressed, or lack token ids or labels.
    """
    if isinstance(rows, datasets.DatasetDict):
        raise DataError(
            f"`{name}` holds several splits: {', '.join(map(str, rows))}. Pass one, such as"
            f" {name}=rows['{next(iter(rows), 'train')}']."
        )
    if not isinstance(rows, datasets.Dataset):
        rows = _collected(rows, name)
    for column in ("input_ids", "labels"):
        if column not in rows.column_names:
            raise DataError(
                f"`{name}` has no column '{column}'; it has {', '.join(rows.column_names)}."
                " Tokenize it first with tutelage.data.tokenize_examples, or let `tutelage run` do"
                " it."
            )
    _check_shapes(rows, name)
    return rows


def _check_shapes(rows: datasets.Dataset, name: str) -> None:
    """Refuse rows whose columns do not belong together.

    Raises:
        DataError: labels of another number than tokens, or padding before a token: rows are padded
            on the right here, so that padding on the left would be read as text.
    """
    columns = [c for c in ("input_ids", "labels", _MASK) if c in rows.column_names]
    tables: Any = rows.select_columns(columns).with_format("arrow").iter(10_000)
    start = 0
    for table in tables:
        sizes = [list_lengths(table[c]) for c in columns]
        for column, size in zip(columns[1:], sizes[1:], strict=True):
            wrong = np.flatnonzero(size != sizes[0])
            if len(wrong):
                raise DataError(
                    f"Row {start + wrong[0]} of `{name}` has {sizes[0][wrong[0]]} input_ids and"
                    f" {size[wrong[0]]} {column}. Each token needs one (a label of -100 where it is"
                    " not learned)."
                )
        if _MASK in columns:
            mask, row_N = flat(table[_MASK])
            after = (mask[1:] != 0) & (mask[:-1] == 0) & (row_N[1:] == row_N[:-1])
            if after.any():
                raise DataError(
                    f"Row {start + row_N[1:][after][0]} of `{name}` has tokens after padding, by"
                    f" its {_MASK}. DistillTrainer pads on the right, by itself: pass rows without"
                    " padding."
                )
        start += len(table)


def _collected(rows: Any, name: str) -> datasets.Dataset:
    """A data set of a list or a map-style data set."""
    if isinstance(rows, str) or not (hasattr(rows, "__getitem__") and hasattr(rows, "__len__")):
        what = "nothing" if rows is None else f"a {type(rows).__name__}"
        raise DataError(
            f"`{name}` is {what}, and a plan says by number and id which rows come when. Pass rows"
            " that can be addressed: a datasets.Dataset, a list of dicts or a map-style torch data"
            " set. A stream that fits into memory becomes one with"
            " datasets.Dataset.from_list(list(stream))."
        )
    if isinstance(rows, Mapping):
        raise DataError(
            f"`{name}` is a mapping of {', '.join(map(str, rows))}. Pass rows: a datasets.Dataset"
            " (datasets.Dataset.from_dict makes one of columns) or a list of dicts."
        )
    items = [rows[number] for number in range(len(rows))]
    if not items:
        raise DataError(f"`{name}` is empty. Pass at least one row.")
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise DataError(
                f"Row {number} of `{name}` is a {type(item).__name__}. Each row must be a mapping"
                " with input_ids and labels."
            )
        if missing := {key for key in (*COLUMNS, _MASK) if key in items[0]} - set(item):
            raise DataError(
                f"Row {number} of `{name}` has no '{min(missing)}', and row 0 has one."
                " Give it to all rows or to none."
            )
    columns = [key for key in (*COLUMNS, _MASK) if key in items[0]] or list(items[0])
    return datasets.Dataset.from_dict({key: [_plain(i[key]) for i in items] for key in columns})


def _plain(value: Any) -> Any:
    """A tensor or an array as a list."""
    return value.tolist() if hasattr(value, "tolist") else value


@dataclass(frozen=True)
class _SeenTokens:
    """What is known of the tokens of all rows.

    Attributes:
        unlabelled: numbers of the rows without a response token.
        labels: least and largest label.
        inputs: least and largest token id.
    """

    unlabelled: Sequence[int]
    labels: tuple[int, int]
    inputs: tuple[int, int]


def _look_at(rows: datasets.Dataset) -> _SeenTokens:
    """Go over all rows once, without a Python object for any token."""
    unlabelled: list[int] = []
    labels, inputs, start = [0], [0], 0
    tables: Any = rows.select_columns(["input_ids", "labels"]).with_format("arrow").iter(10_000)
    for table in tables:
        found, row_N = flat(table["labels"])
        # The first token of a row is predicted by nothing.
        counts = (found != _NOT_A_LABEL) & np.concatenate([[False], row_N[1:] == row_N[:-1]])
        number = np.bincount(row_N[counts], minlength=len(table))
        unlabelled += (start + np.flatnonzero(number == 0)).tolist()
        for seen, values in ((labels, found[counts]), (inputs, flat(table["input_ids"])[0])):
            seen += [int(values.min(initial=0)), int(values.max(initial=0))]
        start += len(table)
    return _SeenTokens(unlabelled, (min(labels), max(labels)), (min(inputs), max(inputs)))


def _check_rows(
    rows: datasets.Dataset, ids: Sequence[str], student: nn.Module, teacher: Any, vocab_size: int
) -> None:
    """Refuse rows that cannot be learned from.

    Args:
        rows: the training data.
        ids: their ids.
        student: the student.
        teacher: what the trainer was given as its teachers.
        vocab_size: number of tokens over which both are compared.

    Raises:
        DataError: a row has no response token; a token id has no embedding or no probability.
    """
    tokens = _look_at(rows)
    if tokens.unlabelled:
        named = ", ".join(f"'{ids[number]}'" for number in tokens.unlabelled[:3])
        raise DataError(
            f"{len(tokens.unlabelled):,} of {len(rows):,} training rows have no response token"
            f" (every label is -100): {named}. They would teach nothing, at a loss of 0. Leave them"
            " out; if there should be answers, look how the labels are made and whether a limit cut"
            " the answers off."
        )
    least, largest = tokens.labels
    if least < 0 or largest >= vocab_size:
        raise DataError(
            f"The training data has the label {largest if largest >= vocab_size else least}, and"
            f" student and teacher are compared over the {vocab_size:,} tokens that both have, so"
            " it has no probability. Tokenize the data with the tokenizer of both; a teacher with"
            " fewer tokens can only write answers (supervision: {kind: text})."
        )
    teachers = teacher.values() if type(teacher) is dict else [teacher]
    for model in (student, *teachers):
        if isinstance(model, nn.Module):
            _check_embeddings(model, tokens.inputs, "student" if model is student else "teacher")


def _check_embeddings(model: nn.Module, inputs: tuple[int, int], owner: str) -> None:
    size = len(causal_lm(model).get_input_embeddings().weight)
    least, largest = inputs
    if least < 0 or largest >= size:
        raise DataError(
            f"The training data has the token id {largest if largest >= size else least}, and the"
            f" {owner} has embeddings for {size:,} tokens. Tokenize the data with its tokenizer."
        )
