"""What the stages of a run share."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.files import atomic_write_json, read_json
from tutelage.pipeline.folder import PartsFolder, RunFolder
from tutelage.pipeline.processes import Processes
from tutelage.pipeline.progress import Display
from tutelage.pipeline.workshop import Workshop
from tutelage.recipe import LoadedRecipe, Recipe
from tutelage.teachers import TeacherStore


@dataclass
class Session:
    """A run in progress.

    Attributes:
        loaded: the recipe with its arms.
        run: the run folder.
        cache: parts that several runs may share (fine-tuned teachers).
        shop: models and tokenizers.
        display: progress.
        processes: who works and who waits.
        seconds: how long each stage took when it was made, by name.
        stores: teacher stores that were opened and verified, by folder.
    """

    loaded: LoadedRecipe
    run: RunFolder
    cache: PartsFolder
    shop: Workshop
    display: Display
    processes: Processes
    seconds: dict[str, float] = field(default_factory=dict)
    stores: dict[Path, TeacherStore] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The main recipe."""
        return self.loaded.recipe

    @property
    def main_arm(self) -> str:
        """Name of the main arm."""
        return next(iter(self.loaded.arms))

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage's time, kept in ``seconds.json``."""
        record = self.run.path / "seconds.json"
        started = time.monotonic()
        yield
        if self.processes.is_first:
            self.seconds = read_json(record) if record.exists() else {}
            spent = self.seconds.get(stage, 0.0) + time.monotonic() - started
            self.seconds[stage] = round(spent, 1)
            atomic_write_json(record, self.seconds)

    def part(self, name: str) -> Path:
        """The folder of a part of the run."""
        return self.run.part(name)


def plain(section: Any, without: tuple[str, ...] = ()) -> Any:
    """A section of a recipe as plain values, or None; ``without`` some of its keys."""
    return None if section is None else section.model_dump(mode="json", exclude=set(without))
