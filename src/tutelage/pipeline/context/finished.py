"""A student that a run has finished, and the format in which its run asked it."""

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.data import Opening
from tutelage.data.asking import PromptFormat
from tutelage.data.kept import read_examples
from tutelage.errors import RunFolderError, did_you_mean
from tutelage.files import read_json
from tutelage.models.gate import is_adapter
from tutelage.pipeline.context.display import Display
from tutelage.pipeline.context.folder import RECORD, PartsFolder
from tutelage.pipeline.context.inputs import STUDENT_START
from tutelage.pipeline.context.models import Models
from tutelage.proofs import MANIFEST, damaged_file, read_sealed
from tutelage.recipe import LoadedRecipe, Recipe, load_recipe

EXAMPLES = "examples.parquet"


@dataclass(frozen=True)
class FinishedStudent:
    """The student of one arm of a run, on the disk.

    Attributes:
        folder: the run folder.
        loaded: its recipe.
        arm: the arm.
        models: loads the models of the run.
    """

    folder: Path
    loaded: LoadedRecipe
    arm: str
    models: Models

    @property
    def place(self) -> Path:
        """The folder of the student."""
        return self.folder / "arms" / self.arm / "student"

    @property
    def recipe(self) -> Recipe:
        """The recipe of the arm."""
        return self.loaded.arms[self.arm]

    @property
    def is_adapter(self) -> bool:
        """Whether it is adapters on a base model."""
        return is_adapter(self.place)

    @property
    def fingerprint(self) -> str:
        """What its manifest calls it."""
        return PartsFolder(self.folder).fingerprint(f"arms/{self.arm}/student")

    @functools.cached_property
    def format(self) -> PromptFormat:
        """How its run asked it.

        Raises:
            RunFolderError: the run's data are not there any more.
        """
        settings: Any = self.recipe.data_section
        data = self.folder / "data"
        try:
            summary = read_json(data / "summary.json")["train"]
            first = next(itertools.islice(read_examples(data / "train" / EXAMPLES), 1))
        except (OSError, ValueError, KeyError, StopIteration) as error:
            raise RunFolderError(
                f"'{data}' is missing or damaged, and says in which format this student is asked."
                " Give the run's own command again, which mends it."
            ) from error
        opening: Mapping[str, str] = summary.get("opening") or {}
        return PromptFormat.of_data(
            first,
            template=getattr(settings, "template", "auto"),
            system=getattr(settings, "system", None),
            opening=Opening(**opening),
        )

    def load(self) -> Any:
        """The student, on its device."""
        return self.models.saved_student(str(self.place)).eval()


def is_run(name: str | Path) -> bool:
    """Whether a name is that of a run folder."""
    return (Path(name).expanduser() / RECORD).is_file()


def student_in_run(name: str) -> tuple[Path, str] | None:
    """The run folder and the arm of ``RUN/arms/ARM/student``; None for any other folder."""
    place = Path(name).expanduser()
    if not place.is_dir():
        return None
    place = place.resolve()
    within = place.name == "student" and place.parent.parent.name == "arms"
    run = place.parent.parent.parent
    return (run, place.parent.name) if within and is_run(run) else None


def finished_student(
    name: str | Path, arm: str | None = None, display: Display | None = None
) -> FinishedStudent:
    """The student of a run.

    Args:
        name: the run folder.
        arm: which one; None for the main arm.
        display: says what is loaded.

    Raises:
        RunFolderError: it is no run folder, there is no such arm, or its student is not there or
            was changed or damaged.
    """
    folder = Path(name).expanduser()
    if not is_run(folder):
        raise RunFolderError(
            f"'{folder}' is no run folder: it has no {RECORD}. Give the folder that `tutelage run`"
            " names at its end; `tutelage runs` lists those there are."
        )
    loaded = load_recipe(str(folder / "recipe.yaml"))
    chosen = next(iter(loaded.arms)) if arm is None else arm
    if chosen not in loaded.arms:
        raise RunFolderError(
            f"The run in '{folder}' has no arm '{chosen}'.{did_you_mean(chosen, loaded.arms)}"
            f" Its arms: {', '.join(loaded.arms)}."
        )
    models = Models(loaded, folder / STUDENT_START, display)
    student = FinishedStudent(folder, loaded, chosen, models)
    _check(student)
    return student


def _check(student: FinishedStudent) -> None:
    """Refuse a student that is not there, or not as it was written."""
    place = student.place
    if not place.is_dir():
        trained = sorted(path.parent.name for path in student.folder.glob("arms/*/student"))
        raise RunFolderError(
            f"The arm '{student.arm}' of '{student.folder}' has no student yet; students there:"
            f" {', '.join(trained) or 'none'}. Give the run's own command again, which goes on."
        )
    manifest = read_sealed(place / MANIFEST)
    # What is beside the student (how it was trained) is no part of it.
    files = {} if manifest is None else manifest.get("files", {})
    own = {name: value for name, value in files.items() if not name.startswith("../")}
    wrong = MANIFEST if manifest is None else damaged_file(place, own)
    if wrong is not None:
        raise RunFolderError(
            f"'{place / wrong}' is missing, or was changed or damaged after it was written, so this"
            " is not the student that was trained and evaluated. Give the run's own command again,"
            " which makes it anew; or name the student's folder where a plain model will do."
        )
