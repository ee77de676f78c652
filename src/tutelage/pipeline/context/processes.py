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
        """Wait until every process is here."""
        if self._state is not None:
            from torch import distributed

            distributed.barrier(group=self._waiting)

    def see(self, *folders: Path) -> None:
        """Make sure that all processes see the same folders: what one writes, the others read.

        All wait for each other.

        Args:
            folders: of the run; the first process makes those that are not there.

        Raises:
            ConfigError: in the first process, when another one does not see one of them.
            SystemExit: in the others then.
        """
        if self._state is None:
            return
        from torch import distributed

        name = self.by_first(_mark, folders)
        mine = [f"'{folder}' on {socket.gethostname()}" for folder in _without(name, folders)]
        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, mine, group=self._waiting)
        if self.is_first:
            for folder in folders:
                (folder / name).unlink(missing_ok=True)
        lacking = sorted({one for some in found for one in some})
        if lacking and not self.is_first:
            raise SystemExit(2)
        if lacking:
            raise ConfigError(
                f"Not all of the {self.count} processes see the same files: what the first one"
                f" wrote is not in {', '.join(lacking)}. Give --run-dir and `output` on a file"
                " system that all hosts share, as absolute paths."
            )

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
        if not self.is_first:
            distributed.broadcast_object_list(said, src=0, group=self._waiting)
            if said[0] is None:
                raise SystemExit(2)
            return said[0][0]
        try:
            said = [[function(*arguments, **named)]]
        except Exception:
            distributed.broadcast_object_list(said, src=0, group=self._waiting)
            raise
        distributed.broadcast_object_list(said, src=0, group=self._waiting)
        return said[0][0]


_HOW = (
    "On a CPU start them with `torchrun --nproc-per-node N -m tutelage run RECIPE`; on GPUs with"
    " that, or with `accelerate launch --multi_gpu --num_processes N -m tutelage run RECIPE`."
)


def _mark(folders: tuple[Path, ...]) -> str:
    """Put a file of a new name into folders; its name."""
    name = f".seen-{secrets.token_hex(8)}"
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
