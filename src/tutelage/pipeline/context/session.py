"""What the stages of a run share."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tutelage.errors import RunFolderError
from tutelage.evaluation import Suite
from tutelage.files import read_json_or
from tutelage.locks import held
from tutelage.pipeline.context.changes import changes, reason
from tutelage.pipeline.context.clock import Clock
from tutelage.pipeline.context.display import Display
from tutelage.pipeline.context.folder import USED, PartsFolder, RunFolder, kind_of
from tutelage.pipeline.context.models import Models
from tutelage.pipeline.context.processes import Processes
from tutelage.pipeline.context.shared import SharedParts
from tutelage.pipeline.context.suites import suites_of, validation_suite
from tutelage.proofs import fingerprint, read_sealed, write_sealed
from tutelage.recipe import LoadedRecipe, Recipe
from tutelage.teachers import Mirror, TeacherStore
from tutelage.teachers.store import Stamp
from tutelage.training.settings import parts_of

_ALIKE = 3
"""A part of another run is compared with when no more than so many of its inputs differ."""

USERS = "users"
"""A folder in the cache: which run folders have used it, wherever they are."""

TIME = "seconds.json"
"""In a part of the cache: how long making it took."""

_QUICK = ("plan", "signal")
"""Parts that are made sooner than they are looked for elsewhere."""


@dataclass
class Session:
    """A run in progress.

    Attributes:
        loaded: the recipe with its arms.
        run: the run folder.
        cache: what several runs may share: fine-tuned teachers, texts, stores, and parts.
        models: models and tokenizers.
        display: progress.
        processes: who works and who waits.
        clock: who pays how much time.
        stores: teacher stores that were opened, by their folders.
        mirrors: folders of stores at addresses, by their address.
        brought: addresses of which everything is here, with the key of what they hold.
        verified: by what their shards are known again that were compared with their checksums.
        draws: whether plans are drawn, and a report is written; both can be done later.
        replaced: what the parts were made from that this run replaced in another recipe's folder.
    """

    loaded: LoadedRecipe
    run: RunFolder
    cache: PartsFolder
    models: Models
    display: Display
    processes: Processes
    clock: Clock
    stores: dict[tuple[Path, ...], TeacherStore] = field(default_factory=dict)
    mirrors: dict[str, Mirror] = field(default_factory=dict)
    brought: set[tuple[str, str]] = field(default_factory=set)
    verified: set[Stamp] = field(default_factory=set)
    draws: bool = True
    replaced: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)

    @property
    def recipe(self) -> Recipe:
        """The main recipe."""
        return self.loaded.recipe

    @functools.cached_property
    def suites(self) -> dict[str, Suite]:
        """What is asked at the end; see ``suites_of``."""
        return suites_of(self.recipe)

    @functools.cached_property
    def validation_suite(self) -> Suite:
        """What is asked in training, to select the best."""
        return validation_suite(self.recipe)

    def cuts(self, whose: Literal["student", "teacher"]) -> bool:
        """Whether a model that all arms share is cut over the processes, as the recipe says it."""
        return parts_of(self.recipe.training.shard, whose, self.processes.count) > 1

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

    @contextlib.contextmanager
    def holding(self, name: str, *, alone: bool = False, title: str = "") -> Iterator[None]:
        """Be the only run that makes a thing in the cache, while other runs wait.

        Args:
            name: of the thing.
            alone: only this process is here; else all of them call this together.
            title: what to call it; its name when left out.
        """
        if alone or self.processes.is_first:
            lock = held(self.cache.path, name, self.run.path, self.display.note, title or name)
        else:
            lock = contextlib.nullcontext()
        with lock:
            if not alone:
                self.processes.wait()
            yield

    # ---- parts: there, taken from another run, or to be made --------------------------------

    @property
    def shared(self) -> SharedParts:
        """Parts that this run takes from others and leaves to others."""
        return SharedParts(self.cache.path / "parts")

    def ready(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """Whether a part with these inputs is there, or another run has left one to take.

        Says in a line what becomes of the part, and why. For the first process alone.
        """
        if self.run.fresh(name, inputs):
            self._say(name, "reused")
            self.keep(name, inputs)
            return True
        before = self.run.inputs(name)
        if self._taken(name, inputs):
            return True
        self._say(name, self._why(name, before, inputs))
        return False

    def _taken(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """Take a part that another run has left, if one has."""
        if kind_of(name) in _QUICK or not self.shared.has(name, inputs):
            return False
        self.set_aside(name)
        maker = self.shared.take(self.run, name, inputs, functools.partial(self._pay, name))
        if maker is None:
            return False
        self._said.discard(name)  # it may have been forecast that it is made here
        self._say(name, f"reused, from {maker}")
        return True

    @contextlib.contextmanager
    def missing(
        self, name: str, inputs: Mapping[str, Any], *, together: bool = False
    ) -> Iterator[bool]:
        """Whether a part is still to be made; if it is, this run alone makes it in the block.

        A run that makes the same part meanwhile is waited for, and what it leaves is taken.

        Args:
            name: the part.
            inputs: what it is made from.
            together: all processes call this, and the first decides for them; else it is alone.
        """
        first = self.processes.by_first if together else call
        if first(self.ready, name, inputs):
            yield False
            return
        lock = self.shared.place(name, inputs).path.name
        with self.holding(lock, alone=not together, title=part_title(name)):
            yield not first(self._taken, name, inputs)

    def _pay(self, name: str, paid: Mapping[str, Any]) -> None:
        """Charge what a part took where it was made: arms pay for what they need, made or taken."""
        if paid["stage"]:
            # An arm may have another name there.
            arm = name.split("/")[1] if kind_of(name) == "student" else ""
            stage = training_stage(arm) if arm else paid["stage"]
            self.clock.add(stage, paid["seconds"], name)

    @contextlib.contextmanager
    def making(self, name: str, inputs: Mapping[str, Any], stage: str) -> Iterator[Path]:
        """Make a part in the time of a stage, if any, and keep it for other runs."""
        self.set_aside(name)
        before = self.clock.seconds.get(stage, 0.0)

        def paid() -> dict[str, Any]:
            seconds = self.clock.spent() - before if stage else 0.0
            return {"stage": stage, "seconds": round(seconds, 3)}

        timed = self.timed(stage) if stage else contextlib.nullcontext()
        with timed, self.run.making(name, inputs, paid) as folder:
            yield folder
        self.keep(name, inputs)

    def keep(self, name: str, inputs: Mapping[str, Any]) -> None:
        """Leave a part of this run, made from these inputs, to other runs."""
        if kind_of(name) in _QUICK:
            return
        try:
            self._sign()
            self.shared.put(self.run, name, inputs, self.recipe.name)
        except (OSError, RunFolderError) as error:
            self.display.note(f"note: {name} is not kept for other runs: {error}")

    def cached(self, name: str) -> Path:
        """Where something is in the cache; the run folder says that the run uses it."""
        self._sign()
        record = self.run.path / USED
        known = (read_sealed(record) or {}).get("names", [])
        if self.processes.is_first and name not in known:
            write_sealed(record, {"names": sorted([*known, name])})
        return self.cache.part(name)

    def _sign(self) -> None:
        """Leave word in the cache that this run uses it, so that nobody cleans it meanwhile."""
        if self.processes.is_first:
            place = str(self.run.path.resolve())
            record = self.cache.part(USERS) / f"{fingerprint(place)[:16]}.json"
            if read_sealed(record) != {"run": place}:
                write_sealed(record, {"run": place})

    def took(self, part: str, title: str, stage: str) -> None:
        """Say that something in the cache is used again, and charge what making it took.

        Args:
            part: in the cache.
            title: what to call it.
            stage: whom to charge.
        """
        if not self.processes.is_first:
            return
        if title not in self._said:
            self._said.add(title)
            self.display.note(f"{title}: reused")
        seconds = read_json_or(self.cache.part(part) / TIME, {}).get("seconds")
        if isinstance(seconds, int | float):
            self.clock.add(stage, seconds, part)

    def set_aside(self, name: str) -> None:
        """Keep what another recipe made in this folder, before it is replaced."""
        before = self.run.inputs(name)
        if not self.run.of_other_recipe or before is None or name in self.replaced:
            return
        if kind_of(name) == "plan":  # plans that were made while training go with the student
            self.set_aside(f"{name.rpartition('/')[0]}/student")
        self.shared.put(self.run, name, before, "")
        self.replaced[name] = before

    def put_back(self) -> None:
        """Give a folder of another recipe back what was replaced in it."""
        for name, inputs in self.replaced.items():
            self.shared.take(self.run, name, inputs)

    def _say(self, name: str, words: str) -> None:
        if name not in self._said and words and (kind_of(name), words) != ("plan", "reused"):
            self.display.note(f"{part_title(name)}: {words}")
        self._said.add(name)

    def _why(self, name: str, before: Mapping[str, Any] | None, inputs: Mapping[str, Any]) -> str:
        """Why a part is made anew; empty for one that nobody has made before."""
        if before is not None:
            return f"made anew, because {reason(before, inputs)}"
        others = self.shared.relatives(name, self.recipe.name)
        nearest = min(others, key=lambda other: len(changes(other[0], inputs)), default=None)
        if nearest is None or len(changes(nearest[0], inputs)) > _ALIKE:
            return ""
        return f"made anew, because {reason(nearest[0], inputs)} in {nearest[1]}"


def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What stands in for ``Processes.by_first`` where the first process is alone already."""
    return function(*arguments, **named)


def training_stage(arm: str) -> str:
    """What the clock calls the training of an arm."""
    return f"training {arm}"


def part_title(name: str) -> str:
    """A part as people call it: ``cpd: student`` for ``arms/cpd/student``."""
    short = name.removeprefix("arms/").removeprefix("references/")
    return short.replace("/", ": ").replace("_", " ")
