"""A folder at an address, through fsspec: its files listed, read, brought here and sent there."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tutelage.addresses import checked_address, file_system_class
from tutelage.errors import StoreError, TutelageError, first_line
from tutelage.files import atomic_file, room_errors

_MAKES_FOLDERS = ("ftp", "sftp", "ssh", "smb", "webdav", "hdfs", "webhdfs")
"""Where a folder must be there before a file in it. What has buckets has none, and asked for a
folder it may make a bucket of a mistyped name."""

_AT_ONCE = 4
"""Files that are brought at the same time, where the file system can do several things at once."""

Moved = Callable[[int], Any]
"""Called with how many bytes of a file have been moved."""


class RemoteFolder:
    """A folder at an address. Nothing is remembered of what is in it: others may write there.

    Args:
        address: as in ``s3://bucket/folder``.

    Attributes:
        address: without a slash at its end.

    Raises:
        ConfigError: it is no address, holds a password, or is of a kind that nobody knows.
        MissingDependencyError: the package for it is not installed.
        StoreError: it cannot be reached.
    """

    def __init__(self, address: str) -> None:
        self.address = checked_address(address)
        file_system_class(self.address)
        from fsspec.core import url_to_fs

        with self._asked("reached"):
            system, root = url_to_fs(self.address)
        self._system: Any = system
        self._root = root.rstrip("/")
        self._made = not self.address.startswith(tuple(f"{kind}:" for kind in _MAKES_FOLDERS))

    @property
    def at_once(self) -> int:
        """How many files can be moved at the same time."""
        return _AT_ONCE if getattr(self._system, "async_impl", False) else 1

    def files(self) -> dict[str, int]:
        """Names and sizes of the files in it; none where there is no such folder.

        Raises:
            StoreError: it cannot be listed.
        """
        with self._asked("listed"):
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._root, detail=True)
            except FileNotFoundError:
                return {}
        of_it = (one for one in found if one["type"] == "file")
        named = {one["name"].rstrip("/"): one["size"] or 0 for one in of_it}
        # An empty object may stand for the folder itself.
        return {n.rpartition("/")[2]: size for n, size in named.items() if n != self._root}

    def read(self, name: str) -> bytes:
        """The content of a small file.

        Raises:
            StoreError: it cannot be read.
        """
        with self._asked("read"):
            return self._system.cat_file(f"{self._root}/{name}")

    @contextlib.contextmanager
    def bringing(self, name: str, path: Path, moved: Moved) -> Iterator[Path]:
        """Bring a file; it takes its name here when the block, which may look at it, ends well.

        Args:
            name: of the file.
            path: where it goes.
            moved: called on the way.

        Raises:
            StoreError: it cannot be read.
            RunFolderError: the disk is full, or cannot be written.
        """
        with atomic_file(path) as file:
            with self._asked("read"), room_errors(path):
                self._system.get_file(f"{self._root}/{name}", file.name, callback=_counting(moved))
            yield Path(file.name)

    def send(self, path: Path, moved: Moved) -> None:
        """Send a file, under its own name; what is there of this name is replaced.

        Raises:
            StoreError: it cannot be written.
        """
        with self._asked("written"):
            if not self._made:
                self._system.makedirs(self._root, exist_ok=True)
                self._made = True
            self._system.put_file(str(path), f"{self._root}/{path.name}", callback=_counting(moved))

    @contextlib.contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Turn whatever a file system raises into one message."""
        try:
            yield
        except TutelageError:  # of the disk here
            raise
        except Exception as error:
            # Each has exceptions of its own, of the network as of the rights.
            raise StoreError(
                f"'{self.address}' cannot be {what} ({first_line(error)}). {_way_out(error)} What"
                " is here stays, and the same command goes on from it."
            ) from error


def _way_out(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "The keys that were found in the environment, or their lack, do not allow it."
    if isinstance(error, FileNotFoundError):
        return "Make the bucket or folder first, or mend the address (teacher.store)."
    return "Look at the network, the address (teacher.store) and the keys in the environment."


def _counting(moved: Moved) -> Any:
    from fsspec.callbacks import Callback

    return Callback(hooks={"moved": lambda size, value, **_: moved(value)})
