"""Cheap features of tokenized rows, for guessing a difficulty that was not measured.

Two passes over the tokens, a block of rows at a time, all in array operations: no model, and no
loop over tokens in Python.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tutelage.data.collate import IGNORED
from tutelage.difficulty.measurements import FloatArray, IntArray

FEATURES = (
    "log_prompt_tokens",
    "log_response_tokens",
    "mean_unigram_surprisal",
    "max_unigram_surprisal",
    "mean_bigram_surprisal",
    "type_token_ratio",
)

_ROWS_AT_ONCE = 16_384
_SIDE = 2048
_BUCKETS = _SIDE * _SIDE
"""Counters of pairs of tokens (32 MB)."""


@dataclass(frozen=True)
class _Block:
    """Some rows, with their response tokens one after another (R of them in all).

    Attributes:
        num_tokens: tokens of each row, prompt and response.
        num_response: response tokens of each row that have a token before them.
        row_R: which row of the block a response token is in; never falls.
        tokens_R: its id.
        previous_R: id of the token before it.
    """

    num_tokens: IntArray
    num_response: IntArray
    row_R: IntArray
    tokens_R: IntArray
    previous_R: IntArray


@dataclass
class _Counts:
    """How often each response token, each token before one, and each pair of them occurs."""

    tokens: IntArray
    contexts: IntArray
    pairs: IntArray

    def add(self, block: _Block) -> None:
        self.tokens = _summed(self.tokens, np.bincount(block.tokens_R))
        self.contexts = _summed(self.contexts, np.bincount(block.previous_R))
        self.pairs += np.bincount(
            _bucket(block.previous_R, block.tokens_R), minlength=_BUCKETS
        ).astype(np.int64)


def row_features(rows: Any) -> FloatArray:
    r"""Features of each row, in the order of ``FEATURES``.

    With n(w) occurrences of token w among M response tokens of the whole set, c(v) of v as the
    token before one and c(v, w) of the pair, the surprisals in nats are

    .. math:: u(w) = \log \frac{M}{n(w)}, \qquad
              b(v, w) = \log \frac{c(v)}{c(v, w) - 1 + n(w) / M}

    The second leaves the token itself out of the count of its pair and puts one imagined occurrence
    of v in its place, which goes to the tokens by their frequency: a pair seen nowhere else has
    only that to go by. Pairs are counted in 4,194,304 buckets: exactly for ids below 2,048, beyond
    that with collisions, which can only lower a surprisal; no pair counts as more frequent than v
    or w is.

    Lengths enter as log(1 + length); means and the maximum run over the response tokens. The
    type-token ratio is the number of different response tokens over their number. A row without
    response tokens has zeros.

    Args:
        rows: a data set, or a sequence of mappings, with ``input_ids`` and ``labels``.

    Returns:
        Shape ``[N, 6]``.
    """
    nothing = np.zeros(0, dtype=np.int64)
    counts = _Counts(nothing, nothing, np.zeros(_BUCKETS, dtype=np.int64))
    for block in _blocks(rows):
        counts.add(block)
    parts = [_block_features(block, counts) for block in _blocks(rows)]
    return np.concatenate(parts) if parts else np.zeros((0, len(FEATURES)))


def _block_features(block: _Block, counts: _Counts) -> FloatArray:
    total = counts.tokens.sum()
    of_token = counts.tokens[block.tokens_R]
    of_context = counts.contexts[block.previous_R]
    of_pair = counts.pairs[_bucket(block.previous_R, block.tokens_R)]
    # A pair cannot be more frequent than its parts; a bucket that several share can.
    of_pair = np.minimum(of_pair, np.minimum(of_token, of_context))
    unigram_R = np.log(total / of_token)
    bigram_R = np.log(of_context / (of_pair - 1 + of_token / total))
    divisor = np.maximum(block.num_response, 1)
    return np.stack(
        [
            np.log1p(block.num_tokens - block.num_response),
            np.log1p(block.num_response),
            _sums(block, unigram_R) / divisor,
            _maxima(block, unigram_R),
            _sums(block, bigram_R) / divisor,
            _num_types(block) / divisor,
        ],
        axis=1,
    )


def _blocks(rows: Any) -> Iterator[_Block]:
    table = rows
    if isinstance(rows, datasets.Dataset):
        table = rows.select_columns(["input_ids", "labels"]).with_format("arrow")
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, len(rows))
        if isinstance(rows, datasets.Dataset):
            part = table[start:stop]
            tokens, lengths = _from_arrow(part["input_ids"])
            labels, _ = _from_arrow(part["labels"])
        else:
            some: Sequence[Mapping[str, Any]] = [rows[i] for i in range(start, stop)]
            tokens, lengths = _from_lists([row["input_ids"] for row in some])
            labels, _ = _from_lists([row["labels"] for row in some])
        yield _block(tokens, labels, lengths)


def _from_arrow(column: pa.ChunkedArray) -> tuple[IntArray, IntArray]:
    """All values of a column of lists, and the length of each list."""
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    lengths = [chunk.value_lengths().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(values).astype(np.int64), np.concatenate(lengths).astype(np.int64)


def _from_lists(lists: Sequence[Any]) -> tuple[IntArray, IntArray]:
    arrays = [np.asarray(values, dtype=np.int64) for values in lists]
    return np.concatenate(arrays), np.asarray([len(array) for array in arrays], dtype=np.int64)


def _block(tokens: IntArray, labels: IntArray, lengths: IntArray) -> _Block:
    learned = labels != IGNORED
    # Nothing predicts the first token of a row, and the token before it is another row's.
    starts = (np.cumsum(lengths) - lengths)[lengths > 0]
    learned[starts] = False
    places = np.flatnonzero(learned)
    row_R = np.repeat(np.arange(len(lengths)), lengths)[places]
    num_response = np.bincount(row_R, minlength=len(lengths)).astype(np.int64)
    return _Block(lengths, num_response, row_R, tokens[places], tokens[places - 1])


def _bucket(previous: IntArray, tokens: IntArray) -> IntArray:
    """The counter of a pair: one of its own for ids below 2,048, otherwise a shared one."""
    near = (previous % _SIDE) * _SIDE + tokens % _SIDE
    far = (previous // _SIDE) * 2_654_435_761 + (tokens // _SIDE) * 2_246_822_519
    return (near + far) % _BUCKETS


def _summed(a: NDArray[Any], b: NDArray[Any]) -> IntArray:
    """Sum of two arrays of counts, the shorter one filled with zeros."""
    total = np.zeros(max(len(a), len(b)), dtype=np.int64)
    total[: len(a)] += a
    total[: len(b)] += b
    return total


def _sums(block: _Block, values_R: FloatArray) -> FloatArray:
    sums = np.bincount(block.row_R, weights=values_R, minlength=len(block.num_tokens))
    return sums.astype(np.float64)


def _maxima(block: _Block, values_R: FloatArray) -> FloatArray:
    maxima = np.zeros(len(block.num_tokens))
    filled = block.num_response > 0
    starts = np.cumsum(block.num_response) - block.num_response
    if len(values_R):
        maxima[filled] = np.maximum.reduceat(values_R, starts[filled])
    return maxima


def _num_types(block: _Block) -> IntArray:
    """Number of different response tokens of each row."""
    if not len(block.tokens_R):
        return np.zeros(len(block.num_tokens), dtype=np.int64)
    width = int(block.tokens_R.max()) + 1
    keys = np.sort(block.row_R * width + block.tokens_R)
    first = np.concatenate([[True], keys[1:] != keys[:-1]])
    return np.bincount(keys[first] // width, minlength=len(block.num_tokens)).astype(np.int64)
