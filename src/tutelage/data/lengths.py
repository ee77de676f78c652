"""Columns of tokenized rows as arrays, without a Python object for any row: texts, and lengths.

How many tokens rows have is a column where tokenizing left it, and counted in Arrow elsewhere.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from tutelage.data.collate import IGNORED
from tutelage.ids import Ids

NUM_TOKENS = "num_tokens"
"""Column of tokenized rows: tokens of prompt and answer."""

NUM_RESPONSE_TOKENS = "num_response_tokens"
"""Column of tokenized rows: tokens that are learned. None predicts the first token of a row."""

_ROWS_AT_ONCE = 10_000
_COMPUTE: Any = pyarrow.compute  # its functions are made at import, where no type checker sees them

Lengths = NDArray[np.int64]


def stored_lengths(rows: Any, column: str) -> Lengths:
    """A column of lengths that tokenizing left with the rows, as one array.

    Args:
        rows: a data set that ``tokenize_examples`` made, or a part of it.
        column: ``NUM_TOKENS`` or ``NUM_RESPONSE_TOKENS``, or another column of whole numbers.
    """
    return _collected(table[column].to_numpy() for table in _tables(rows, column))


def stored_texts(rows: Any, column: str) -> Ids:
    """A column of texts, such as the ids, as one sequence; other values become texts.

    Args:
        rows: a data set, or a part of it.
        column: its name.
    """
    text = pa.large_string()
    exact = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)
    chunks = []
    for table in _tables(rows, column):
        values = table[column].combine_chunks()
        if any(is_one(values.type) for is_one in exact):
            chunks.append(values.cast(text))
        else:  # of fractions, say, Arrow makes other texts than Python
            chunks.append(pa.array([str(value) for value in values.to_pylist()], text))
    return Ids(pa.chunked_array(chunks, text))


def count_tokens(rows: Any) -> Lengths:
    """Tokens of each row of anybody's data set, from where its lists begin and end.

    Args:
        rows: a data set with ``input_ids``.
    """
    return _collected(list_lengths(table["input_ids"]) for table in _tables(rows, "input_ids"))


def count_response_tokens(rows: Any) -> Lengths:
    """Tokens that are learned of each row of anybody's data set.

    Args:
        rows: a data set with ``labels``, -100 where a token is not learned.
    """
    return _collected(_learned(table["labels"]) for table in _tables(rows, "labels"))


def _learned(column: pa.ChunkedArray) -> Lengths:
    labels, row_N = flat(column)
    # The first token of a row is predicted by nothing.
    counts = (labels != IGNORED) & np.concatenate([[False], row_N[1:] == row_N[:-1]])
    return np.bincount(row_N[counts], minlength=len(column))


def list_lengths(column: pa.ChunkedArray) -> NDArray[np.integer]:
    """How many values each list of a column has, from where it begins and ends."""
    return _COMPUTE.list_value_length(column).to_numpy()


def flat(column: pa.ChunkedArray) -> tuple[NDArray[Any], NDArray[np.integer]]:
    """All values of a column of lists, one after another, and the row that each is in."""
    lists = column.combine_chunks()
    values = _COMPUTE.list_flatten(lists).to_numpy(zero_copy_only=False)
    return values, _COMPUTE.list_parent_indices(lists).to_numpy(zero_copy_only=False)


def _tables(rows: Any, column: str) -> Iterator[pa.Table]:
    """One column, some rows at a time."""
    yield from rows.select_columns([column]).with_format("arrow").iter(_ROWS_AT_ONCE)


def _collected(parts: Iterator[NDArray[Any]]) -> Lengths:
    found = list(parts)
    return np.concatenate(found).astype(np.int64) if found else np.zeros(0, dtype=np.int64)
