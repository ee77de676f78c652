"""Tokenized rows as they come, kept as tables: a token in a list of Python's takes far more."""

import hashlib
from typing import Any

import datasets
import pyarrow as pa

from tutelage.data.lengths import NUM_RESPONSE_TOKENS, NUM_TOKENS

TABLE_TOKENS = 1 << 19
"""Rows wait in Python's lists until they have so many tokens."""

FEATURES = datasets.Features(
    {
        "id": datasets.Value("string"),
        "input_ids": datasets.Sequence(datasets.Value("int32")),
        "labels": datasets.Sequence(datasets.Value("int32")),
        "num_prompt_tokens": datasets.Value("int32"),
        NUM_TOKENS: datasets.Value("int32"),
        NUM_RESPONSE_TOKENS: datasets.Value("int32"),
        "prompt": datasets.Value("string"),
        "completion": datasets.Value("string"),
        "references": datasets.Sequence(datasets.Value("string")),
        "group": datasets.Value("string"),
    }
)
"""The columns of a tokenized data set; see ``TokenizedSplit``."""


class RowTables:
    """Takes rows one by one, and makes a data set of them."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._rows: list[dict[str, Any]] = []
        self._tokens = 0
        self._hash = hashlib.blake2b(digest_size=8)

    def add(self, row: dict[str, Any]) -> None:
        """Take a row with the columns of ``FEATURES``."""
        self._rows.append(row)
        self._tokens += row[NUM_TOKENS]
        if self._tokens >= TABLE_TOKENS:
            self._close()

    def _close(self) -> None:
        """Make a table of the rows that wait."""
        batch = pa.RecordBatch.from_pylist(self._rows, schema=FEATURES.arrow_schema)
        self._hash.update(batch.serialize())
        self._tables.append(pa.Table.from_batches([batch]))
        self._rows, self._tokens = [], 0

    def dataset(self) -> datasets.Dataset:
        """All rows so far."""
        if self._rows or not self._tables:
            self._close()
        # Without a fingerprint one is made of a copy of everything.
        return datasets.Dataset(pa.concat_tables(self._tables), fingerprint=self._hash.hexdigest())
