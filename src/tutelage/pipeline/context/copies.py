"""Hosts that see no common folder: what the first process writes is brought to the others.

The run is the first process's folder. Every other host keeps a copy as scratch, and in its cache
what the run uses there; before a process reads what the first one wrote, its host has it. What only
another host can write (its shards of a store, its random states in a checkpoint) is collected into
the first one's folder.
"""

import contextlib
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tutelage.errors import ConfigError
from tutelage.files import TEMPORARY_PREFIX, atomic_file, atomic_write_text, disk_errors
from tutelage.pipeline.context.folder import USED
from tutelage.proofs import read_sealed

SCRATCH = ".scratch"
"""What makes a folder the copy of a run: it may be written over, and be removed."""

WORKING = ("checkpoint-", "rollouts")
"""Folders whose names begin so are written by all processes while they train."""

_CHUNK = 1 << 24  # bytes that are sent at once

Listing = dict[str, tuple[int, int]]
"""Size and time of each file, by its path below a folder; of a folder (-1, 0)."""


class HostCopies:
    """Copies of a run on hosts that do not see it; see above.

    Args:
        run: the run folder, by the same name on all hosts.
        cache: the cache, likewise.
        index: of this process.
        keepers: the first process, and of each other host the one that writes its copy.
        group: of all processes, on the CPU.
        between: of the keepers.
    """

    def __init__(
        self, run: Path, cache: Path, index: int, keepers: Sequence[int], group: Any, between: Any
    ) -> None:
        self._run, self._cache, self._index = run, cache, index
        self._keepers, self._group, self._between = list(keepers), group, between
        self._brought: dict[str, Listing] = {}
        if self._keeps and index:
            atomic_write_text(run / SCRATCH, "A copy of a run on another host.\n")

    @property
    def _keeps(self) -> bool:
        return self._index in self._keepers

    def _below(self, root: str) -> Path:
        """A folder by the name that all hosts have for it: the run's, or one in the cache."""
        return self._run if not root else self._cache / root

    # ---- from the first process to the others -----------------------------------------------

    def bring(self) -> None:
        """Let every host have what the first process has by now; all processes call this.

        What is written while training goes on is left out.

        Raises:
            ConfigError: the run folder is a copy of itself, on a file system that is common and
                slow.
        """
        if self._keeps:
            self._bring()
        self._meet()

    def bring_work(self, folder: Path) -> None:
        """The same for a folder with checkpoints, before a training goes on from one of them."""
        if self._keeps:
            mine = sorted(p.name for word in WORKING for p in folder.glob(f"{word}*"))
            theirs = self._from_first(mine)
            for name in set(mine) - set(theirs):
                shutil.rmtree(folder / name)
            for name in theirs:
                self._same(folder / name, remove=True)
        self._meet()

    def _bring(self) -> None:
        listings: dict[str, Listing] = {}
        if not self._index:
            used = (read_sealed(self._run / USED) or {}).get("names", [])
            listings = {root: listed(self._below(root)) for root in ("", *used)}
        changed = self._from_first(
            {root: one for root, one in listings.items() if one != self._brought.get(root)}
        )
        for root, listing in changed.items():
            if SCRATCH in listing:
                raise ConfigError(
                    f"'{self._run}' is on a file system that several hosts share, and what one"
                    " writes the others see only after seconds. Use another one, or folders that"
                    " each host has for itself."
                )
            self._same(self._below(root), listing, remove=not root)
        self._brought |= changed

    def _same(self, folder: Path, listing: Listing | None = None, *, remove: bool) -> None:
        """Make a folder of all keepers that of the first, which lists it where nobody has."""
        if listing is None:
            listing = self._from_first(listed(folder, working=True) if not self._index else None)
        assert listing is not None
        mine = listed(folder, working=True) if self._index else listing
        lacking = [name for name, what in listing.items() if mine.get(name) != what]
        wanted: list[list[str]] = [[] for _ in self._keepers]
        torch.distributed.all_gather_object(wanted, lacking, group=self._between)
        if self._index and remove:
            _remove(folder, listing, mine)
        for name in sorted({name for some in wanted for name in some}):
            with disk_errors(folder):
                self._send(folder / name, listing[name], 0, into=name in lacking)

    # ---- from the others to the first process -----------------------------------------------

    def collect(self, *folders: Path, everywhere: bool = False) -> None:
        """Let the first process have what other hosts alone have in folders; all call this.

        Args:
            folders: the same on all.
            everywhere: let every host have what any of them has.
        """
        for folder in folders if self._keeps else ():
            there: list[Listing] = [{} for _ in self._keepers]
            mine = listed(folder, working=True)
            torch.distributed.all_gather_object(there, mine, group=self._between)
            everyone = set.intersection(*map(set, there)) if everywhere else set(there[0])
            lacking = set().union(*there) - everyone
            for name in sorted(lacking):
                sender, what = next(
                    (keeper, listing[name])
                    for keeper, listing in zip(self._keepers, there, strict=True)
                    if name in listing
                )
                into = name not in mine and (everywhere or not self._index)
                with disk_errors(folder):
                    self._send(folder / name, what, sender, into=into)
        self._meet()

    # ---- both -------------------------------------------------------------------------------

    def _send(self, path: Path, what: tuple[int, int], sender: int, *, into: bool) -> None:
        """One file, or an empty folder, from one keeper to all; written where it is wanted."""
        size, changed = what
        if size < 0:
            if into:
                path.mkdir(parents=True, exist_ok=True)
            return
        sends = self._index == sender
        chunk = torch.empty(min(size, _CHUNK), dtype=torch.uint8)
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(path.open("rb")) if sends else None
            target = stack.enter_context(atomic_file(path)) if into and not sends else None
            for start in range(0, size, _CHUNK):
                part = chunk[: min(_CHUNK, size - start)]
                if source is not None and source.readinto(part.numpy().data) != len(part):
                    raise ConfigError(f"'{path}' was changed while it was sent to other hosts.")
                torch.distributed.broadcast(part, src=sender, group=self._between)
                if target is not None:
                    target.write(part.numpy().data)
            if target is not None:
                target.flush()  # what is written later would change the time again
                os.utime(target.fileno(), ns=(changed, changed))

    def _from_first(self, said: Any) -> Any:
        box = [said]
        torch.distributed.broadcast_object_list(box, src=0, group=self._between)
        return box[0]

    def _meet(self) -> None:
        torch.distributed.barrier(group=self._group)


def why_no_copy(run: Path) -> str | None:
    """What keeps a folder from being the copy of a run, or None."""
    there = {path.name for path in run.iterdir()} if run.is_dir() else set()
    if SCRATCH in there or not any(map(_counts, there)):
        return None
    return f"'{run}' on {socket.gethostname()} is not empty, and no copy of a run"


def listed(folder: Path, *, working: bool = False) -> Listing:
    """What is in a folder, but for locks and what is not whole.

    Args:
        folder: it may not be there.
        working: with what is in the folders that all processes write to.
    """
    found: Listing = {}
    for place, folders, files in os.walk(folder):
        below = Path(place)
        folders[:] = [name for name in folders if _counts(name)]
        for name in folders:
            found[str((below / name).relative_to(folder))] = (-1, 0)
        if not working:
            folders[:] = [name for name in folders if not name.startswith(WORKING)]
        for name in filter(_counts, files):
            with contextlib.suppress(FileNotFoundError):
                about = (below / name).stat()
                key = str((below / name).relative_to(folder))
                found[key] = (about.st_size, about.st_mtime_ns)
    return found


def _counts(name: str) -> bool:
    return name == SCRATCH or not name.startswith((TEMPORARY_PREFIX, ".lock", ".claims"))


def _remove(folder: Path, listing: Listing, mine: Listing) -> None:
    """Remove from a copy what the first process does not have (any more)."""
    for name in sorted(mine.keys() - listing.keys(), reverse=True):
        path = folder / name
        parts = Path(name).parts
        within = [number for number, part in enumerate(parts) if part.startswith(WORKING)]
        # What is in a working folder goes with it, or when a training is about to go on.
        if name == SCRATCH or (within and str(Path(*parts[: within[0] + 1])) in listing):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
