"""A teacher store at an address, and the folder here that is kept the same.

All reading and filling is done in the folder. What it lacks is brought before anything is asked of
it, and what the address lacks is sent. On both sides the rule of a folder holds: the checksum of a
shard comes last, and without it the shard does not count.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

from tutelage.addresses import checked_address
from tutelage.errors import StoreError
from tutelage.files import atomic_write_bytes
from tutelage.proofs import file_crc32
from tutelage.teachers.store.head import FILE as HEAD
from tutelage.teachers.store.need import ROOM, free_bytes
from tutelage.teachers.store.remote import RemoteFolder
from tutelage.teachers.store.shards import is_whole, whole_shards
from tutelage.teachers.store.spec import (
    MANIFEST,
    StoreSpec,
    check_spec,
    difference,
    parsed_manifest,
    read_manifest,
)

SPENT = "seconds-*.json"
"""How long filling took in each pass: one file each, since several hosts write them."""

_OURS = ("shard-", "seconds-")
_LOOKS = 0.5  # seconds until it is told how far the files are
_MB = 1_000_000

Report = Callable[[int, int], Any]
"""Called with megabytes moved and to be moved."""

Task = Callable[[str], AbstractContextManager[Report]]
"""Shows a piece of work by its title."""


def _untold(title: str) -> AbstractContextManager[Report]:
    return nullcontext(lambda done, total: None)


class Mirror:
    """A folder that is kept the same as the store at an address.

    Args:
        address: as in ``s3://bucket/folder``.
        folder: on this machine, for this address alone.

    Attributes:
        address: without a slash at its end.
        folder: the folder.

    Raises:
        ConfigError: it is no address, or one with a password in it.

    Examples:
        >>> mirror = Mirror("s3://bucket/store", "runs/cache/mine")  # doctest: +SKIP
        >>> mirror.bring(spec)  # doctest: +SKIP
        >>> store = TeacherStore(mirror.folder, spec)  # doctest: +SKIP
    """

    def __init__(self, address: str, folder: str | Path) -> None:
        self.address = checked_address(address)
        self.folder = Path(folder)

    @property
    def title(self) -> str:
        """Both places, as messages call them."""
        return f"{self.address} (kept in {self.folder})"

    @cached_property
    def _there(self) -> RemoteFolder:
        return RemoteFolder(self.address)

    # ---- what is there comes here -----------------------------------------------------------

    def bring(self, spec: StoreSpec, *, must: bool = False, task: Task = _untold) -> None:
        """Bring what the address has and the folder lacks, each shard held against its checksum.

        Args:
            spec: what the store must hold.
            must: a store must be there; else there may be nothing yet.
            task: shows how far it is, where there is something to bring.

        Raises:
            StoreError: the address cannot be read, holds another store or a damaged shard, or the
                disk has no room for it.
            RunFolderError: the disk cannot be written.
        """
        there = self._there.files()
        if MANIFEST not in there and not must:
            self._check_free(there)
            return
        content = self._there.read(MANIFEST) if MANIFEST in there else None
        manifest = parsed_manifest(content, self.address)
        check_spec(self.address, manifest, spec)
        self._check_same(manifest)
        begun = (self.folder / MANIFEST).is_file()
        sizes = {
            name: size
            for file, size in there.items()
            if (name := _shard_of(file, there)) and not is_whole(self.folder, name)
        }
        if not begun and spec.kind == "hidden":
            sizes = {HEAD: there.get(HEAD, 0), **sizes}
        self._check_room(sum(sizes.values()))
        if sizes:
            with task(f"Bringing the teacher store from {self.address} (MB)") as report:
                self._bring_all(sizes, manifest, report)
        if content is not None and not begun:
            atomic_write_bytes(self.folder / MANIFEST, content)
        for name in there:
            if Path(name).match(SPENT) and not (self.folder / name).exists():
                atomic_write_bytes(self.folder / name, self._there.read(name))

    def _check_free(self, there: Iterable[str]) -> None:
        """Refuse to begin a store among other files."""
        others = [name for name in there if name != HEAD and not name.startswith(_OURS)]
        if others:
            raise StoreError(
                f"'{self.address}' is not empty and is no teacher store (it has '{others[0]}' and"
                f" no {MANIFEST}). Name another folder, or an empty one."
            )

    def _check_room(self, size: int) -> None:
        free = free_bytes(self.folder)
        if size and free < size * ROOM:
            raise StoreError(
                f"What '{self.address}' holds and '{self.folder}' lacks takes {size / 1e6:,.0f} MB,"
                f" and {free / 1e6:,.0f} MB are free here. Free some space, or name another disk"
                " for what is kept (output: FOLDER)."
            )

    def _bring_all(self, sizes: dict[str, int], manifest: dict[str, Any], report: Report) -> None:
        """Bring files, several at once where that can be done, and tell how far they are."""
        moved = dict.fromkeys(sizes, 0)
        total = -(-sum(sizes.values()) // _MB)

        def bring(name: str) -> None:
            def say(done: int) -> None:
                moved[name] = done

            if name == HEAD:
                self._bring_head(manifest["head_crc32"], say)
            else:
                self._bring_shard(name, say)
            moved[name] = sizes[name]

        with ThreadPoolExecutor(self._there.at_once, "bringing") as pool:
            waiting = {pool.submit(bring, name) for name in sizes}
            try:
                while waiting:
                    done, waiting = wait(waiting, _LOOKS, FIRST_COMPLETED)
                    report(min(sum(moved.values()) // _MB, total), total)
                    for one in done:
                        one.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _bring_head(self, checksum: int, moved: Callable[[int], Any]) -> None:
        with self._there.bringing(HEAD, self.folder / HEAD, moved) as path:
            if file_crc32(path) != checksum:
                raise StoreError(
                    f"The teacher's head '{self.address}/{HEAD}' was changed or damaged after it"
                    f" was written. Delete it and '{self.address}/{MANIFEST}': who has filled the"
                    " store sends both again."
                )

    def _bring_shard(self, name: str, moved: Callable[[int], Any]) -> None:
        content = self._there.read(f"{name}.json")
        try:
            record = json.loads(content)
            checksum = record["bytes"], record["crc32"]
        except (ValueError, KeyError, TypeError):
            checksum = None
        path = self.folder / f"{name}.safetensors"
        with self._there.bringing(path.name, path, moved) as brought:
            if (brought.stat().st_size, file_crc32(brought)) != checksum:
                raise StoreError(
                    f"'{self.address}/{path.name}' was changed or damaged after it was written, or"
                    f" its checksum beside it was ('{name}.json'): they do not match. Delete both"
                    " there and give the same command again; only its examples are computed anew."
                )
        atomic_write_bytes(path.with_suffix(".json"), content)

    # ---- what is here goes there ------------------------------------------------------------

    def send(self, names: Sequence[str] | None = None, *, task: Task = _untold) -> None:
        """Send what the folder has and the address lacks: head and manifest first, then shards.

        Args:
            names: of shards; None sends all that are whole, and how long they took.
            task: shows how far it is, where there is something to send.

        Raises:
            StoreError: the address cannot be written, or holds another store.
        """
        there = self._there.files()
        if MANIFEST in there:
            self._check_same(parsed_manifest(self._there.read(MANIFEST), self.address))
        files = [path for path in self._to_send(names) if not self._has(there, path)]
        if not files:
            return
        with task(f"Sending the teacher store to {self.address} (MB)") as report:
            sizes = [path.stat().st_size for path in files]
            total = -(-sum(sizes) // _MB)
            for number, path in enumerate(files):
                before = sum(sizes[:number])
                self._there.send(path, lambda n, before=before: report((before + n) // _MB, total))
            report(total, total)

    def _to_send(self, names: Sequence[str] | None) -> list[Path]:
        """Files of the store in the order in which they are written anywhere."""
        if not (self.folder / MANIFEST).is_file():
            return []
        shards = whole_shards(self.folder)
        if names is not None:
            shards = [path for path in shards if path.stem in names]
        files = [self.folder / HEAD, self.folder / MANIFEST]
        files += [one for path in shards for one in (path, path.with_suffix(".json"))]
        if names is None:
            files += sorted(self.folder.glob(SPENT))
        return [path for path in files if path.is_file()]

    @staticmethod
    def _has(there: dict[str, int], path: Path) -> bool:
        """Whether a file is there, with the one that makes it count."""
        if path.name == HEAD:
            return MANIFEST in there and HEAD in there
        if path.name.startswith("shard-"):  # both of a pair, or both again
            return all(f"{path.stem}.{ending}" in there for ending in ("safetensors", "json"))
        return path.name in there

    def _check_same(self, manifest: dict[str, Any]) -> None:
        """Refuse to mix what is here with what is there, where one was made anew."""
        if not (self.folder / MANIFEST).is_file():
            return
        if word := difference(manifest, read_manifest(self.folder)):
            raise StoreError(
                f"The teacher store '{self.address}' {word} than '{self.folder}', in which it was"
                " kept here: one of them was made anew. Delete that folder; what the address holds"
                " is brought again."
            )


def _shard_of(file: str, there: dict[str, int]) -> str:
    """The shard that a file holds, if it is whole there."""
    name, _, ending = file.rpartition(".")
    whole = name.startswith("shard-") and ending == "safetensors" and f"{name}.json" in there
    return name if whole else ""
