"""Reading a store ahead: in a thread of its own, while the batches before are computed."""

import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

BYTES_AHEAD = 1 << 28
"""What is read ahead waits in so much memory at most, or it is one batch."""


@dataclass
class _Batch:
    """A batch that will be asked for.

    Attributes:
        positions: of its examples in the store.
        ends: where the rows of each end among those of all, a zero before them.
        taken: how many examples have been asked for: a batch may come in parts.
        read: what is read, or being read; None when nobody has begun.
    """

    positions: NDArray[np.integer]
    ends: NDArray[np.int64]
    taken: int = 0
    read: Future[Tensor] | None = None


class ReadAhead:
    """Gives what was expected when it is asked for, read meanwhile; the same as without it.

    Only what was expected with the very same positions is given, so the order in which things are
    asked for changes nothing but the time that it takes. Nobody else may use an object at the same
    time.

    Args:
        read: the rows of some examples, one after another; called in another thread.
        rows: how many rows each of some examples has.
        row_bytes: of a row.
    """

    def __init__(
        self,
        read: Callable[[NDArray[np.integer]], Tensor],
        rows: Callable[[NDArray[np.integer]], NDArray[np.integer]],
        row_bytes: int,
    ) -> None:
        self._read, self._rows, self._row_bytes = read, rows, row_bytes
        self._batches: deque[_Batch] = deque()
        self._pool: ThreadPoolExecutor | None = None

    def expect(self, positions: NDArray[np.integer]) -> None:
        """Say what will be asked for after all that was expected before."""
        if len(positions):
            ends = np.concatenate([[0], np.cumsum(self._rows(positions), dtype=np.int64)])
            self._batches.append(_Batch(positions, ends))
            self._begin()

    def take(self, positions: NDArray[np.integer]) -> Tensor:
        """The rows of some examples: those read ahead, or else read now.

        Raises:
            Exception: what went wrong in the other thread.
        """
        found = next((one for one in self._batches if _comes(one, positions)), None)
        if found is None:
            return self._read(positions)
        while self._batches[0] is not found:  # nobody asked for them
            _drop(self._batches.popleft())
        self._begin()
        assert found.read is not None
        try:
            rows = found.read.result()
        except BaseException:
            self.close()
            raise
        first, found.taken = found.taken, found.taken + len(positions)
        part = rows[found.ends[first] : found.ends[found.taken]]
        if found.taken == len(found.positions):
            self._batches.popleft()
            self._begin()
        return part

    def _begin(self) -> None:
        """Begin to read what fits into memory, in order."""
        size = 0
        for number, one in enumerate(self._batches):
            size += int(one.ends[-1]) * self._row_bytes
            if number and size > BYTES_AHEAD:
                return
            if one.read is None:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(1, "teacher store")
                one.read = self._pool.submit(self._read, one.positions)

    def close(self) -> None:
        """Forget what is expected, and end the thread; it begins anew when it is needed."""
        while self._batches:
            _drop(self._batches.popleft())
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _comes(one: _Batch, positions: NDArray[np.integer]) -> bool:
    """Whether these examples are what comes next of a batch."""
    return len(positions) > 0 and np.array_equal(
        one.positions[one.taken : one.taken + len(positions)], positions
    )


def _drop(one: _Batch) -> None:
    if one.read is not None:
        with contextlib.suppress(Exception):
            one.read.cancel()
