"""Tables that grow batch by batch, in memory while they are small and on disk when they are not.

What is on disk is read through a memory map: the system keeps the pages that are in use, and takes
them back when others need room. The file has no name, so that nothing is left of it when the
process ends, in whatever way.
"""

import mmap
import os
import tempfile
from pathlib import Path
from typing import IO

import pyarrow as pa

from tutelage.files import disk_errors

IN_MEMORY = 1 << 26
"""Bytes of a table that are kept in memory; a larger one goes to disk."""


class Spool:
    """Takes record batches, and gives them back as one table.

    Args:
        schema: of the batches.
        folder: an existing folder for the file; None for the system's own place for such files.
    """

    def __init__(self, schema: pa.Schema, folder: str | Path | None = None) -> None:
        self._schema = schema
        self._folder = Path(folder or tempfile.gettempdir())
        self._batches: list[pa.RecordBatch] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._writer: pa.RecordBatchFileWriter | None = None

    def add(self, batch: pa.RecordBatch) -> None:
        """Take a batch.

        Raises:
            RunFolderError: the disk is full, or refuses the file.
        """
        self._bytes += batch.nbytes
        self._batches.append(batch)
        if self._writer is not None or self._bytes > IN_MEMORY:
            self._write()

    def _write(self) -> None:
        with disk_errors(self._folder):
            if self._writer is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (closed by `table`)
                self._writer = pa.ipc.new_file(self._file, self._schema)
            for batch in self._batches:
                self._writer.write_batch(batch)
        self._batches = []

    def table(self) -> pa.Table:
        """All batches, each a chunk of its own; nothing can be added then."""
        if self._file is None or self._writer is None:
            return pa.Table.from_batches(self._batches, self._schema)
        with disk_errors(self._folder):
            self._writer.close()
            self._file.flush()
        size = os.fstat(self._file.fileno()).st_size
        # The map keeps the file, whose handle can go, and goes with the last array that is in it.
        mapped = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_READ)
        self._file.close()
        return pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
