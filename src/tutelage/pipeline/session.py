"""What the stages of a run share."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tutelage.pipeline.clock import Clock
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
        clock: who pays how much time.
        stores: teacher stores that were opened and verified, by folder.
    """

    loaded: LoadedRecipe
    run: RunFolder
    cache: PartsFolder
    shop: Workshop
    display: Display
    processes: Processes
    clock: Clock
    stores: dict[Path, TeacherStore] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The main recipe."""
        return self.loaded.recipe

    @property
    def main_arm(self) -> str:
        """Name of the main arm."""
        return next(iter(self.loaded.arms))

    def timed(self, stage: str) -> AbstractContextManager[None]:
        """Charge the time of the block to a stage."""
        return self.clock.charge(stage)

    def part(self, name: str) -> Path:
        """The folder of a part of the run."""
        return self.run.part(name)
