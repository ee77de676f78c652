"""One process or several: who works, and who waits."""

import atexit
import os
import secrets
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from tutelage.errors import ConfigError
from tutelage.files import TEMPORARY_PREFIX
from tutelage.pipeline.context.copies import SCRATCH, HostCopies, why_no_copy

_LONG = timedelta(days=7)
"""The others may wait this long while the first process measures, evaluates and writes."""

_STEP = timedelta(hours=1)
"""In training they work side by side: whoever waits this long for another one has lost it."""

_LOOKS = 5
"""So often, a second apart, is looked for what another host has written."""

Found = TypeVar("Found")


def _part() -> None:
    """Close what connects the processes: its threads, left to themselves, may abort a process."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


class Processes:
    """The processes of an ``accelerate launch``, or the only one.

    Everything but training is done by the first; the others wait and then read its files. Whatever
    hangs on what a disk has is decided by the first alone (:meth:`by_first`): processes that looked
    for themselves could see other things, and one would wait where another does not come.

    Attributes:
        asked_precision: what the launcher said of mixed precision, ``no`` for nothing. It is taken
            out of the environment: the recipe says in which precision a model is trained.

    Raises:
        ConfigError: the launcher was asked for several processes and started one, or for models
            that are cut over processes.
    """

    def __init__(self) -> None:
        _check_launcher()
        self.asked_precision = os.environ.pop("ACCELERATE_MIXED_PRECISION", "no")
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.index = int(os.environ.get("RANK", "0"))
        self._state: Any = None
        self._copies: HostCopies | None = None
        if self.count > 1:
            import torch
            from accelerate import PartialState

            self._state = PartialState(cpu=not _has_accelerator(), timeout=_STEP)
            self._waiting: Any = torch.distributed.new_group(backend="gloo", timeout=_LONG)
            atexit.unregister(_part)
            atexit.register(_part)
            if self._state.num_processes != self.count:
                raise ConfigError(
                    f"{self.count} processes were asked for and {self._state.num_processes} came."
                    f" {_HOW}"
                )

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0

    def wait(self) -> None:
        """Wait until every process is here, and sees what the first one wrote."""
        if self._state is not None:
            from torch import distributed

            distributed.barrier(group=self._waiting)
            self._bring()

    def _bring(self) -> None:
        if self._copies is not None:
            self._copies.bring()

    @property
    def are_apart(self) -> bool:
        """Whether some see another run folder than the first one."""
        return self._copies is not None

    def bring_work(self, folder: Path) -> None:
        """Let all hosts have the checkpoints of the first one; all processes call this."""
        if self._copies is not None:
            self._copies.bring_work(folder)

    def collect(self, *folders: str | Path) -> None:
        """Let the first process have what others wrote into folders; all processes call this."""
        if self._copies is not None:
            self._copies.collect(*map(Path, folders))

    def share(self, folder: str | Path) -> None:
        """Let every host have what any of them has in a folder; all processes call this."""
        if self._copies is not None:
            self._copies.collect(Path(folder), everywhere=True)

    def see(self, run: Path, cache: Path, tell: Callable[[str], Any] = lambda text: None) -> None:
        """Make sure that all processes see what the first one writes.

        Hosts on which they do not keep a copy of the run; see ``HostCopies``. All wait for each
        other.

        Args:
            run: the run folder; the first process makes what is not there.
            cache: the cache.
            tell: called with a line where there are such hosts.

        Raises:
            ConfigError: in the first process, when another one sees one of the two alone, calls
                them otherwise, or has something else there.
            SystemExit: in the others then.
        """
        if self._state is None:
            return
        name = self.by_first(_mark, (run, cache))
        lacking = _without(name, (run, cache))
        wrong = None
        if len(lacking) == 1:
            wrong = f"'{lacking[0]}' on {socket.gethostname()} is not what the first process writes"
        elif lacking:
            wrong = why_no_copy(run)
        said = self._gather((str(run), str(cache), bool(lacking), wrong, socket.gethostname()))
        if self.is_first:
            for folder in (run, cache):
                (folder / name).unlink(missing_ok=True)
            (run / SCRATCH).unlink(missing_ok=True)  # a copy that is now the run
        self.by_first(_check_places, said)
        if not any(apart for _, _, apart, _, _ in said):
            return
        keepers = self._keepers(run, name, bool(lacking))
        hosts = ", ".join(sorted({host for *_, apart, _, host in said if apart}))
        tell(f"{hosts}: no common folder, so a copy of what the run needs is kept there in '{run}'")
        from torch import distributed

        between = distributed.new_group(keepers, backend="gloo", timeout=_LONG)
        self._copies = HostCopies(run, cache, self.index, keepers, self._waiting, between)

    def _gather(self, value: Any) -> list[Any]:
        """What all processes say."""
        from torch import distributed

        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, value, group=self._waiting)
        return found

    def _keepers(self, run: Path, name: str, apart: bool) -> list[int]:
        """The first process, and of each folder that others see the first one that sees it."""
        marks = [run / f"{name}-{index}" for index in range(self.count)]
        if apart:
            run.mkdir(parents=True, exist_ok=True)
            marks[self.index].touch()
        self.wait()
        mine = [number for number, mark in enumerate(marks) if apart and mark.exists()]
        found = self._gather(min(mine, default=0))
        if apart:
            marks[self.index].unlink()
        return sorted(set(found))

    def by_first(self, function: Callable[..., Found], *arguments: Any, **named: Any) -> Found:
        """Let the first process call a function; all get what it returned.

        Args:
            function: decides something, or does work that the others wait for.
            arguments: of the function.
            named: further ones.

        Raises:
            SystemExit: in the other processes, when the function failed: the first one says why.
        """
        if self._state is None:
            return function(*arguments, **named)
        from torch import distributed

        said: list[Any] = [None]  # what the function returned, in a list of its own
        failed = None
        if self.is_first:
            try:
                said = [[function(*arguments, **named)]]
            except Exception as error:
                failed = error
        distributed.broadcast_object_list(said, src=0, group=self._waiting)
        if failed is not None:
            raise failed
        if said[0] is None:
            raise SystemExit(2)
        self._bring()
        return said[0][0]


_HOW = (
    "On a CPU start them with `torchrun --nproc-per-node N -m tutelage run RECIPE`; on GPUs with"
    " that, or with `accelerate launch --multi_gpu --num_processes N -m tutelage run RECIPE`."
)


def _mark(folders: tuple[Path, ...]) -> str:
    """Put a file of a new name into folders; its name."""
    # What a kill leaves of it goes with other leftovers.
    name = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return name


def _without(name: str, folders: tuple[Path, ...]) -> list[Path]:
    """The folders in which a file does not show up."""
    for _ in range(_LOOKS):
        lacking = [folder for folder in folders if not (folder / name).exists()]
        if not lacking:
            return []
        time.sleep(1.0)
    return lacking


def _check_places(said: list[tuple[str, str, bool, str | None, str]]) -> None:
    """Refuse hosts that can neither see the run nor keep a copy of it."""
    run, cache, *_ = said[0]
    for theirs, cached, _, wrong, host in said:
        if (theirs, cached) != (run, cache):
            wrong = f"the run folder and the cache are '{run}' and '{cache}', and on {host}"
            wrong += f" '{theirs}' and '{cached}'"
        if wrong is not None:
            raise ConfigError(
                f"Not all of the {len(said)} processes see the same files: {wrong}. Give --run-dir"
                " and `output` on a file system that all hosts share, as absolute paths; or, for"
                " hosts that share none, such as are new on each of them."
            )


def _check_launcher() -> None:
    """Refuse what would run otherwise than it was asked for, by what launchers leave behind."""
    said = os.environ
    for name, what in (
        ("ACCELERATE_USE_FSDP", "FSDP"),
        ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "Megatron-LM"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "tensor, context or sequence parallelism"),
    ):
        if said.get(name, "").lower() in ("1", "true"):
            raise ConfigError(
                f"The launcher was asked for {what}, which it would not carry out here. To cut a"
                " model over the processes set training.shard in the recipe (student, teacher or"
                f" both): torch's FSDP2 does it. {_HOW}"
            )
    if "WORLD_SIZE" in said:
        return
    # `accelerate launch --num_processes 2` without a GPU starts one process and says nothing; it
    # sets the address where several would meet.
    lost = "ACCELERATE_DYNAMO_BACKEND" in said and "MASTER_PORT" in said
    started = [said.get(name, "1") for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")]
    if lost or any(count not in ("", "1") for count in started):
        raise ConfigError(
            "The launcher was asked for several processes, and this one was started as if it were"
            f" alone. {_HOW} (If one process is what you want, ask the launcher for one, with"
            " MASTER_PORT not set.)"
        )


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()
