"""Reading a user's examples: JSON Lines, JSON, CSV, parquet, Arrow, a saved folder, the hub.

What its rows are is in ``shapes``.
"""

import itertools
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tutelage.data.loaded import ExampleRows, LoadedExamples, draw_positions
from tutelage.data.read import format_of, read_rows
from tutelage.data.row import Row, wrong_type
from tutelage.data.shapes import GROUP_COLUMNS, KNOWN_COLUMNS, Shape, find_shape
from tutelage.data.sources import Source, SourceRows, are_drawn, check_sources, shares
from tutelage.data.stored import Content, StoredExamples
from tutelage.data.turns import turn_content
from tutelage.errors import ConfigError, DataError, did_you_mean, unknown_name
from tutelage.proofs import fingerprint

_EXACT = 2.0**53  # whole numbers below it are exact as floats
_ID_DIGITS = 16  # of SHA-256: two of a million different examples share one once in 40 million runs


def _digest(content: Content) -> str:
    """A hash of the content alone: the same row has the same one in every file and order."""
    turns = [turn_content(message) for message in content.messages]
    parts = [dict(content.fields), list(content.references), turns]
    tools = [list(content.tools)] if content.tools else []
    system = [] if content.system is None else [{"system": content.system}]
    return fingerprint([*parts, *tools, *system])[:_ID_DIGITS]


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
        names: our name of a column to the file's, as in ``{"prompt": "text"}``, for sources that
            have no ``columns`` of their own.
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
    had = [stop - start for start, stop in itertools.pairwise(edges)]
    rows = [
        SourceRows(one, count, *ends)
        for one, count, ends in zip(sources, had, itertools.pairwise(starts), strict=True)
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
    """The rows of one source, with columns under the names that they have here.

    Args:
        source: the source.
        split: the split to read where the source names none.
        columns: further columns that are wanted.
        names: our name of a column to the file's, where the source has no names of its own.

    Raises:
        ConfigError: a name of ours is none.
        DataError: the source is missing or malformed, has no such column, or no such split.
    """
    given = names if source.columns is None else source.columns
    named = "data.columns" if source.columns is None else f"`columns` of '{source.title}'"
    given = given or {}
    for ours in given:
        if ours not in KNOWN_COLUMNS:
            raise unknown_name("column of an example", ours, KNOWN_COLUMNS)
    _check_place(source)
    wanted = (*KNOWN_COLUMNS, *columns, *given.values())
    rows = read_rows(
        source.path, source.split or split, wanted, name=source.name, revision=source.revision
    )
    for number, row in enumerate(itertools.islice(rows, source.first)):
        yield _renamed(row, given, named if number == 0 else "") if given else row


def _check_place(source: Source) -> None:
    """Refuse what a source says that one of its kind does not have."""
    path = Path(source.path).expanduser()
    # By os.path: a Path raises where a name is none that files can have.
    if os.path.isfile(path):
        wrong = "name" if source.name else "split" if source.split else ""
        if wrong == "name" or (wrong and format_of(path) != ".json"):
            value, what = getattr(source, wrong), {"name": "configs", "split": "splits"}[wrong]
            raise DataError(
                f"'{source.path}' is a file without {what}, so there is no '{value}' in it."
                f" Leave `{wrong}` out, or name the folder."
            )
    if source.revision and os.path.exists(path):
        raise DataError(
            f"'{source.path}' is on this machine, where there is no revision '{source.revision}' of"
            " it. Leave `revision` out, or check it out there."
        )


def _renamed(row: Row, names: Mapping[str, str], named: str) -> Row:
    """The row with some columns under our names, in place of any that were called so.

    Args:
        row: the row.
        names: our names to the file's.
        named: where the names are from, to be said where one is not there; empty: it may be so.
    """
    columns = {name: value for name, value in row.columns.items() if name not in names}
    for ours, theirs in names.items():
        if theirs in row.columns:
            columns[ours] = row.columns[theirs]
        elif named:
            raise DataError(
                f"{row.where}: there is no column '{theirs}', which is to be `{ours}` ({named})."
                f"{did_you_mean(theirs, row.found)} The columns are {', '.join(row.found)}."
            )
    return Row(row.where, columns, row.found)


def _add_rows(
    found: ExampleRows, source: Source, rows: Iterable[Row], extra: Sequence[str]
) -> None:
    """Read what the rows of a source say; they have one shape."""
    shape: Shape | None = None
    for row in rows:
        shape = shape or find_shape(row)
        content = shape.content(row)
        if source.system is not None:
            content = replace(content, system=source.system)
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
