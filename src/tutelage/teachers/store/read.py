"""A store as it is read: opened, verified, and asked for the signals of examples."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.addresses import is_address
from tutelage.errors import ConfigError, StoreError
from tutelage.teachers.store.head import StoredHead, read_head
from tutelage.teachers.store.index import Location, read_location
from tutelage.teachers.store.keys import Keys
from tutelage.teachers.store.shards import Stamp, load_arrays, verify, whole_shards
from tutelage.teachers.store.spec import (
    MANIFEST,
    StoreSpec,
    check_same,
    check_spec,
    read_manifest,
)

Folders = str | Path | Sequence[str | Path]
"""A store: one folder, or several that are read as one."""


def folders_of(store: Folders) -> tuple[Path, ...]:
    """The folders of a store, one or several.

    Raises:
        ConfigError: one is no folder, but an address.
    """
    named = (store,) if isinstance(store, str | Path) else tuple(store)
    for one in named:
        if is_address(one):
            raise ConfigError(
                f"'{one}' is an address, and stores are read and filled in folders."
                " `Mirror(address, folder)` keeps a folder the same as an address."
            )
    return tuple(map(Path, named))


def check_folders(store: Folders, spec: StoreSpec) -> None:
    """Refuse folders that cannot be read as one store, before anything is computed for it.

    Args:
        store: its folders; the first, which is filled, need not be there yet.
        spec: what all must hold.

    Raises:
        StoreError: one is no store, or holds something else.
    """
    for number, folder in enumerate(folders_of(store)):
        if number or (folder / MANIFEST).is_file():
            check_spec(folder, read_manifest(folder), spec)


def _begun(folders: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders without the first, where others have all and nothing was put into that one."""
    first = folders[0]
    has_something = first.is_dir() and any(first.iterdir())
    return folders if has_something or len(folders) == 1 else folders[1:]


class TeacherStore:
    """A folder, or several, with a teacher's signal at the response tokens of examples.

    Every shard is compared with its checksum when the store is opened. The signals are mapped into
    memory: only those pages that a batch needs are read, and the operating system may let go of
    them again.

    Args:
        folder: the store; of several folders an example that is in two is taken from the first.
        expected: what it must hold; None takes what there is.
        verified: shards that need not be compared, by what an earlier or another process's
            ``stamps`` say of them.

    Attributes:
        folder: the store, or its first folder.
        folders: all of them, but for a first one that is not there or empty.
        manifest: what it holds and how it was made.
        location: where the signal of each example is.
        stamps: by what verified shards are known again.

    Raises:
        StoreError: a folder is no store, was made from another teacher or tokenizer than is
            expected or than the first, or a file was changed or damaged since it was written.

    Examples:
        >>> store = TeacherStore("runs/cache/store-0a1b2c3d4e5f6071")  # doctest: +SKIP
        >>> store.examples, store.manifest["kind"]  # doctest: +SKIP
        (1000, 'hidden')
    """

    def __init__(
        self,
        folder: Folders,
        expected: StoreSpec | None = None,
        *,
        verified: Collection[Stamp] = (),
    ) -> None:
        self.folders = _begun(folders_of(folder))
        self.folder = self.folders[0]
        self.manifest: dict[str, Any] = read_manifest(self.folder)
        for one in self.folders:
            manifest = read_manifest(one)
            if expected is not None:
                check_spec(one, manifest, expected)
            check_same(one, manifest, self.folder, self.manifest)
        self._paths = [path for one in self.folders for path in whole_shards(one)]
        self.stamps = verify(self._paths, verified)
        self.location: Location = read_location(self._paths)
        self._arrays: dict[int, dict[str, Tensor]] = {}

    @property
    def examples(self) -> int:
        """How many examples are stored."""
        return len(self.location.keys)

    @property
    def tokens(self) -> int:
        """How many response tokens are stored."""
        return int(self.location.tokens.sum(dtype=np.int64))

    @property
    def kind(self) -> str:
        """``"hidden"`` or ``"topk"``."""
        return self.manifest["kind"]

    def bytes_on_disk(self) -> int:
        """What all of it takes."""
        files = (path for folder in self.folders for path in folder.iterdir())
        return sum(path.stat().st_size for path in files if path.is_file())

    def head(self) -> StoredHead:
        """The teacher's output head; a store of likeliest tokens has none.

        Raises:
            StoreError: it is missing, changed or damaged.
        """
        assert self.kind == "hidden"
        return read_head(self.folder, self.manifest["transform"], self.manifest["head_crc32"])

    def find(self, keys: Keys, ids: Sequence[str]) -> NDArray[np.integer]:
        """Positions of examples in ``location``.

        Args:
            keys: their keys; see ``row_key``.
            ids: their ids, for the message.

        Raises:
            StoreError: an example is not stored, or is stored with other tokens.
        """
        positions = self.location.find(keys)
        missing = np.flatnonzero(positions < 0)
        if len(missing):
            raise StoreError(
                f"The teacher store {named(self.folders)} has nothing for {len(missing):,} of"
                f" {len(keys):,} examples, for example '{ids[int(missing[0])]}' with the tokens"
                " that it has now (another template, tokenizer or length limit makes other tokens)."
                " Fill the store with these data first: `tutelage cache`, or `fill_store`."
            )
        return positions

    def read(self, positions: NDArray[np.integer] | Sequence[int]) -> dict[str, Tensor]:
        """The signals of some examples, one row for each of their response tokens, in order."""
        names = self._shard(0) if self._paths else {}
        return {name: self.signal(positions, name) for name in names}

    def signal(
        self,
        positions: NDArray[np.integer] | Sequence[int],
        name: str,
        *,
        pinned: bool = False,
    ) -> Tensor:
        """One signal of some examples, one row for each of their response tokens, in order.

        Args:
            positions: of the examples.
            name: of the tensor: ``hidden``; ``top_k`` or ``target``.
            pinned: put it where a GPU fetches it from while everybody goes on.
        """
        where = self.location
        if not len(positions):
            return self._shard(0)[name][:0]
        parts = []
        for position in positions:
            start = int(where.start[position])
            rows = slice(start, start + int(where.tokens[position]))
            parts.append(self._shard(int(where.shard[position]))[name][rows])
        if not pinned:
            return torch.cat(parts)
        shape = (sum(map(len, parts)), *parts[0].shape[1:])
        return torch.cat(parts, out=torch.empty(shape, dtype=parts[0].dtype, pin_memory=True))

    def _shard(self, number: int) -> dict[str, Tensor]:
        if number not in self._arrays:
            self._arrays[number] = load_arrays(self._paths[number])
        return self._arrays[number]


def named(folders: Sequence[Path]) -> str:
    """Folders as messages call them."""
    return " + ".join(f"'{folder}'" for folder in folders)
