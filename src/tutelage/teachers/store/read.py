"""A store as it is read: opened, verified, and asked for the signals of examples."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.errors import StoreError
from tutelage.teachers.store.head import StoredHead, read_head
from tutelage.teachers.store.keys import Keys
from tutelage.teachers.store.shards import (
    Location,
    load_arrays,
    read_location,
    verify,
    whole_shards,
)
from tutelage.teachers.store.spec import StoreSpec, check_spec, read_manifest


class TeacherStore:
    """A folder with a teacher's signal at the response tokens of examples.

    Every shard is compared with its checksum when the store is opened. The signals are mapped into
    memory: only those pages that a batch needs are read, and the operating system may let go of
    them again.

    Args:
        folder: the store.
        expected: what it must hold; None takes what there is.
        verified: skip the checksums; for whoever has just written them.

    Attributes:
        folder: the store.
        manifest: what it holds and how it was made.
        location: where the signal of each example is.

    Raises:
        StoreError: the folder is no store, was made from another teacher or tokenizer, or a file
            was changed or damaged since it was written.

    Examples:
        >>> store = TeacherStore("runs/cache/store-0a1b2c3d4e5f6071")  # doctest: +SKIP
        >>> store.examples, store.manifest["kind"]  # doctest: +SKIP
        (1000, 'hidden')
    """

    def __init__(
        self,
        folder: str | Path,
        expected: StoreSpec | None = None,
        *,
        verified: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.manifest: dict[str, Any] = read_manifest(self.folder)
        if expected is not None:
            check_spec(self.folder, self.manifest, expected)
        self._paths = whole_shards(self.folder)
        if not verified:
            verify(self._paths)
        self.location: Location = read_location(self._paths)
        self._arrays: dict[int, dict[str, Tensor]] = {}

    @property
    def examples(self) -> int:
        """How many examples are stored."""
        return len(self.location.keys)

    @property
    def tokens(self) -> int:
        """How many response tokens are stored."""
        return int(self.location.tokens.sum())

    @property
    def kind(self) -> str:
        """``"hidden"`` or ``"topk"``."""
        return self.manifest["kind"]

    def bytes_on_disk(self) -> int:
        """What the whole folder takes."""
        return sum(path.stat().st_size for path in self.folder.iterdir() if path.is_file())

    def head(self) -> StoredHead:
        """The teacher's output head; a store of likeliest tokens has none.

        Raises:
            StoreError: it is missing, changed or damaged.
        """
        assert self.kind == "hidden"
        return read_head(self.folder, self.manifest["transform"], self.manifest["head_crc32"])

    def find(self, keys: Keys, ids: list[str]) -> NDArray[np.int64]:
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
                f"The teacher store '{self.folder}' has nothing for {len(missing):,} of"
                f" {len(keys):,} examples, for example '{ids[int(missing[0])]}' with the tokens"
                " that it has now (another template, tokenizer or length limit makes other tokens)."
                " Fill the store with these data first: `tutelage cache`, or `fill_store`."
            )
        return positions

    def read(self, positions: NDArray[np.int64]) -> dict[str, Tensor]:
        """The signals of some examples, one row for each of their response tokens, in order."""
        parts: list[dict[str, Tensor]] = []
        for position in positions:
            start = int(self.location.start[position])
            rows = slice(start, start + int(self.location.tokens[position]))
            arrays = self._shard(int(self.location.shard[position]))
            parts.append({name: array[rows] for name, array in arrays.items()})
        if not parts:
            some = self._shard(0) if self._paths else {}
            return {name: array[:0] for name, array in some.items()}
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _shard(self, number: int) -> dict[str, Tensor]:
        if number not in self._arrays:
            self._arrays[number] = load_arrays(self._paths[number])
        return self._arrays[number]
