"""Tokenized rows as they come, kept as a table: a token in a list of Python's takes far more."""

import hashlib
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from tutelage.data.lengths import NUM_RESPONSE_TOKENS, NUM_TOKENS
from tutelage.data.spool import Spool

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
    """Takes rows one by one, and makes a data set of them, on disk when it is large.

    Args:
        folder: where that is; see ``Spool``.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._spool = Spool(FEATURES.arrow_schema, folder)
        self._rows: list[dict[str, Any]] = []
        self._tokens = 0
        self._empty = True
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
        self._spool.add(batch)
        self._empty = False
        self._rows, self._tokens = [], 0

    def dataset(self) -> datasets.Dataset:
        """All rows so far."""
        if self._rows or self._empty:
            self._close()
        # Without a fingerprint one is made of a copy of everything.
        return datasets.Dataset(self._spool.table(), fingerprint=self._hash.hexdigest())
