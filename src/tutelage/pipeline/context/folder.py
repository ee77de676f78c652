"""The folder of a run: who may use it, what is in it, and what is still fresh.

Every part (data, profile, plan, student, evaluation ...) is a folder that is written elsewhere
and renamed into place when it is whole. Beside its files lies a manifest with the fingerprint of
everything that went into it, and with the checksum of every file, also of what was made beside it
and goes where it goes. A part whose fingerprint is the one wanted now, and whose files are as they
were written, is fresh and is not made again.
"""

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from tutelage.errors import RunFolderError, TutelageError, first_line
from tutelage.files import (
    TEMPORARY_PREFIX,
    atomic_directory,
    atomic_write_bytes,
    disk_errors,
    remove_leftovers,
)
from tutelage.locks import is_at, taken
from tutelage.proofs import (
    MANIFEST,
    checksums,
    damaged_file,
    fingerprint,
    read_sealed,
    write_sealed,
)

RECORD = "recipe.json"
"""What makes a folder the run folder of a recipe."""
STOPPED = "stopped.json"
"""Beside it, when the last process did not end well: ``kind`` and ``message``, for who looks on."""
USED = "cache.json"
"""Beside it: what the run has used in the cache, but for parts."""
CARD = "README.md"
"""Written into a finished student by the report, and again by each; no manifest vouches for it."""
OF_THE_RUN = (CARD, "recipe.yaml")
"""What is written into a finished student and says which run made it."""
BESIDE = {"student": ("student_last", "metrics.jsonl", "validation.jsonl", "replanned")}
"""What training leaves beside a student: its manifest vouches for them too."""
NOTHING_PAID = {"stage": "", "seconds": 0.0}
FORMAT = 3
"""Raised when the files of a part change their meaning, so that older parts are made again."""


class PartsFolder:
    """A folder of parts with manifests.

    Args:
        path: the folder; made when it is first written to.

    Attributes:
        tell: called with a line where a part is found damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.tell: Callable[[str], Any] = lambda text: None
        self._verified: set[str] = set()
        self._told: set[str] = set()

    def part(self, name: str) -> Path:
        """The folder of a part, for example ``part("arms/cpd/plan")``."""
        return self.path / name

    def fingerprint(self, name: str) -> str:
        """The fingerprint in a part's manifest; empty when there is no such part."""
        return self._manifest(name).get("fingerprint", "")

    def inputs(self, name: str) -> dict[str, Any] | None:
        """What a part was made from; None when there is no such part."""
        return self._manifest(name).get("inputs")

    def paid(self, name: str) -> dict[str, Any]:
        """The ``stage`` that was charged for a part where it was made, and its ``seconds``."""
        return self._manifest(name).get("paid") or NOTHING_PAID

    def _manifest(self, name: str) -> dict[str, Any]:
        return read_sealed(self.part(name) / MANIFEST) or {}

    def fresh(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """Whether a part was made from exactly these inputs and is as it was written.

        The checksums are looked at once in the life of a process.
        """
        manifest = self._manifest(name)
        # Parts come and go wholly: one without a manifest lost it.
        if not manifest and self.part(name).is_dir():
            self._tell_damage(name, MANIFEST)
        if manifest.get("fingerprint") != part_digest(name, inputs):
            return False
        if name not in self._verified:
            damaged = damaged_file(self.part(name), manifest["files"])
            if damaged is not None:
                self._tell_damage(name, damaged)
                return False
            self._verified.add(name)
        return True

    def whole(self, name: str) -> bool:
        """Whether a part is there and as it was written, whatever it was made from."""
        inputs = self.inputs(name)
        return inputs is not None and self.fresh(name, inputs)

    def _tell_damage(self, name: str, file: str) -> None:
        if name not in self._told:
            self._told.add(name)
            path = os.path.normpath(self.part(name) / file)
            self.tell(
                f"{name}: '{path}' is missing, or was changed or damaged after it was written, so"
                " this part is made anew"
            )

    @contextlib.contextmanager
    def making(
        self,
        name: str,
        inputs: Mapping[str, Any],
        paid: Callable[[], Mapping[str, Any]] = lambda: NOTHING_PAID,
    ) -> Iterator[Path]:
        """Yield a temporary folder that becomes the part when the block ends well.

        Args:
            name: the part.
            inputs: what it is made from.
            paid: says at the end what is charged for it, as :meth:`paid` gives it back.
        """
        with atomic_directory(self.part(name)) as folder:
            yield folder
            write_sealed(
                folder / MANIFEST,
                {
                    "fingerprint": part_digest(name, inputs),
                    "inputs": dict(inputs),
                    "paid": paid(),
                    "files": {
                        **checksums(folder, without=(MANIFEST, CARD)),
                        **self._checksums_beside(name),
                    },
                },
            )
        self._verified.add(name)

    def _checksums_beside(self, name: str) -> dict[str, list[int]]:
        """Of the files beside a part, by their path from it."""
        place = self.part(name).parent
        return {
            f"../{file}": checksum
            for one in BESIDE.get(kind_of(name), ())
            for file, checksum in checksums(place, within=one, without=(CARD,)).items()
        }


def kind_of(name: str) -> str:
    """What a part is, whoever's it is: ``student`` for the student of every arm."""
    return name.rpartition("/")[2].partition("-")[0]


def part_digest(name: str, inputs: Mapping[str, Any]) -> str:
    """The fingerprint of a part: the same for parts of one kind with the same inputs."""
    return fingerprint({"format": FORMAT, "part": kind_of(name), "inputs": dict(inputs)})


class RunFolder(PartsFolder):
    """The folder of one recipe, held by one process at a time.

    Use it as a context manager: entering takes the lock and removes what a killed process left
    half-written; leaving gives the lock back (and so does the death of the process).

    Args:
        path: the folder.
        recipe_fingerprint: of the recipe.
        recipe_yaml: the resolved recipe, written into the folder.
        lock: whether this process takes the lock; only the first of several does.

    Attributes:
        of_other_recipe: whether another recipe made the folder. Its recipe stays there until
            :meth:`take_over`.
    """

    def __init__(
        self, path: str | Path, recipe_fingerprint: str, recipe_yaml: str, *, lock: bool = True
    ) -> None:
        super().__init__(path)
        self.recipe_fingerprint = recipe_fingerprint
        self._recipe_yaml = recipe_yaml
        self._wants_lock = lock
        self._lock: IO[str] | None = None
        self._is_ours = False
        self.of_other_recipe = False

    def __enter__(self) -> "RunFolder":
        if not self._wants_lock:
            return self
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("a+", encoding="utf-8")
        if not taken(self._lock):
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            self._lock.close()
            raise RunFolderError(
                f"The run folder '{self.path}' is in use by process {holder}. Wait for it to end,"
                " or choose another folder with --run-dir."
            )
        if not is_at(self._lock, self.path / ".lock"):
            # Somebody cleaned the folder between those two lines, and who comes next sees no lock.
            self._lock.close()
            return self.__enter__()
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()
        try:
            self._check_recipe()
        except BaseException:
            self._lock.close()
            raise
        remove_leftovers(self.path)
        if not self.of_other_recipe:
            self.take_over()
        return self

    def take_over(self) -> None:
        """Make the folder that of this recipe."""
        if self._wants_lock:
            # First what makes it a run folder: killed before, it is as good as empty.
            text = self._recipe_yaml.encode("utf-8")
            files = {"recipe.yaml": [len(text), zlib.crc32(text)]}
            record = {"fingerprint": self.recipe_fingerprint, "files": files}
            write_sealed(self.path / RECORD, record)
            atomic_write_bytes(self.path / "recipe.yaml", text)
            (self.path / STOPPED).unlink(missing_ok=True)
            self._is_ours = True

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._lock is not None:
            if error is not None and self._is_ours:
                self._note_end(error)
            self._lock.close()

    def _note_end(self, error: BaseException) -> None:
        """Leave word of what ended the run, for those who look at the folder."""
        interrupted = not isinstance(error, Exception)
        message = str(error) if isinstance(error, TutelageError) else first_line(error)
        if interrupted:
            message = "Interrupted by a signal."
        elif not isinstance(error, TutelageError):
            message = f"{type(error).__name__}: {message}"
        record = {"kind": "interrupted" if interrupted else "failed", "message": message}
        with contextlib.suppress(OSError):  # a full disk is why it ended, perhaps
            write_sealed(self.path / STOPPED, record)

    def _check_recipe(self) -> None:
        record = read_sealed(self.path / RECORD)
        if record is None:
            self._check_empty()
        self.of_other_recipe = (
            record is not None and record["fingerprint"] != self.recipe_fingerprint
        )

    def _check_empty(self) -> None:
        """Without a record only an empty folder is taken, or one whose recipe.yaml is this one."""
        recipe = self.path / "recipe.yaml"
        if recipe.is_file() and recipe.read_bytes() == self._recipe_yaml.encode("utf-8"):
            return
        others = [
            path.name
            for path in sorted(self.path.iterdir())
            if path.name not in (".lock", RECORD) and not path.name.startswith(TEMPORARY_PREFIX)
        ]
        if others:
            why = (
                f"its {RECORD} is damaged and its recipe.yaml is not this recipe"
                if (self.path / RECORD).exists()
                else f"it has '{others[0]}'"
            )
            raise RunFolderError(
                f"'{self.path}' is not empty and is no run folder ({why}). Choose another folder"
                " with --run-dir, or an empty one."
            )
