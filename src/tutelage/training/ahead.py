"""The step after the one that is computed: what a stored teacher is asked there is read now."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.teachers import EnsembleTeacher, StoredTeacher
from tutelage.training.step_loss import StepLoss
from tutelage.types import Plan


class StepsAhead:
    """Micro-batches step by step, fetched one step before they are needed.

    Inside ``with`` the threads run that read stored teachers; they end with it, however it ends.

    Args:
        plan: says what is asked of which teacher.
        step_loss: has the teachers.
    """

    def __init__(self, plan: Plan, step_loss: StepLoss) -> None:
        self._plan, self._step_loss = plan, step_loss
        self._asks = plan.takes_logits & ~plan.on_policy
        self._batches: Iterator[Mapping[str, Any]] | None = None
        self._fetched: deque[Any] = deque()
        self._readers: set[StoredTeacher | EnsembleTeacher] = set()

    def __enter__(self) -> "StepsAhead":
        return self

    def __exit__(self, *_: Any) -> None:
        for reader in self._readers:
            reader.close()
        self._readers.clear()

    def step(self, batches: Iterator[Any], count: int) -> list[Any]:
        """The micro-batches of the next step.

        Args:
            batches: all that are left, in their order.
            count: how many a step has.
        """
        if batches is not self._batches:
            self._batches = batches
            self._fetched.clear()
        while len(self._fetched) < count:
            self._fetch(next(batches))
        found = [self._fetched.popleft() for _ in range(count)]
        # A teacher that the next step alone asks may not be in memory beside this one's.
        same = self._plan.teacher_of(found[0]["step"])
        while len(self._fetched) < count and (batch := next(batches, None)) is not None:
            self._fetch(batch, same)
        return found

    def _fetch(self, batch: Any, teacher: str | None = None) -> None:
        """Keep a micro-batch for later, and tell a stored teacher to read what it will be asked."""
        self._fetched.append(batch)
        step = batch["step"]
        if self._asks[step] and teacher in (None, self._plan.teacher_of(step)):
            reader = self._step_loss.reader(step)
            if reader is not None:
                self._readers.add(reader)
                rows = (batch[name] for name in ("input_ids", "attention_mask", "labels"))
                reader.expect(batch["ids"], *rows)
