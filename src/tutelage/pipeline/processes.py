"""One process or several: who works, and who waits."""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta

_LONG = timedelta(days=7)
"""The others may wait this long while the first process measures, evaluates and writes."""


class Processes:
    """The processes of an ``accelerate launch``, or the only one.

    Everything but training is done by the first; the others wait and then read its files.
    """

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.index = int(os.environ.get("RANK", "0"))
        self._state = None
        if self.count > 1:
            from accelerate import PartialState

            self._state = PartialState(cpu=not _has_accelerator(), timeout=_LONG)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0

    def wait(self) -> None:
        """Wait until every process is here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    @contextlib.contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The first process runs the block, then the others do and find everything fresh."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()
