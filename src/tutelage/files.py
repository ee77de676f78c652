"""Writing files so that neither a reader nor a kill, at whatever moment, ever meets half of one.

The rules, for everything that is written and read back:

1. Write under a temporary name, flush to the disk, rename. A killed process leaves at most a file
   or folder whose name starts with ``.tmp-``; it is never read, and goes when the run begins anew.
   Who writes it holds a lock on it: where several processes write, the others let it be.
2. Remove a folder by renaming it to such a name first (:func:`remove_directory`): it is there
   wholly or not at all, so it does not matter which of its files goes first.
3. What proves that something counts comes last: the manifest of a part, the marker of a
   checkpoint, the checksum of a shard. Without its proof it is not there.
4. What says for which inputs a work folder is (``inputs.json``) comes before everything in it.
   Work without it is nobody's, and is begun anew.
5. Proofs are sealed: an empty, torn or changed one counts as not there. They hold size and
   checksum of every file that they vouch for (``proofs``).
6. A log that grows is vouched for up to where it stood: by the checkpoint that was made then, or
   line by line.
"""

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tutelage.errors import RunFolderError

TEMPORARY_PREFIX = ".tmp-"
_NO_PLACE = {
    errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL,
    errno.ENOENT,
}  # fmt: skip
"""A path that is none, or below something that is no folder."""
_NOT_HELD_YET = 2.0  # seconds in which whoever makes a file has surely come to hold it


NO_ROOM = {
    errno.ENOSPC: ("The disk is full", "Free some space"),
    errno.EDQUOT: ("Your quota of the disk is used up", "Free some space or have the quota raised"),
    errno.EFBIG: (
        "A file would become larger than is allowed here",
        "Raise the limit (`ulimit -f unlimited`) or use another disk",
    ),
}
"""What the operating system says when a file has no room: what is wrong, and what to do."""


def nearest_folder(path: str | Path) -> Path:
    """A folder, or where it is not there yet the nearest one above it."""
    place = Path(path).absolute()
    while not place.is_dir():
        place = place.parent
    return place


def no_room(path: str | Path, number: int) -> RunFolderError:
    """The error for a file that has no room, by the number of the system's error."""
    what, remedy = NO_ROOM[number]
    return RunFolderError(
        f"{what}: '{path}' was not written. What was there before is unharmed. {remedy} and give"
        " the same command again: it continues from there."
    )


@contextlib.contextmanager
def room_errors(path: str | Path) -> Iterator[None]:
    """Say what has no room, wherever in the block a write was refused for it."""
    try:
        yield
    except OSError as error:
        if isinstance(error, RunFolderError) or error.errno not in NO_ROOM:
            raise
        raise no_room(error.filename or path, error.errno) from error


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the disk's refusals into one message that says what was not written."""
    try:
        yield
    except OSError as error:
        if isinstance(error, RunFolderError):
            raise
        if error.errno in NO_ROOM:
            raise no_room(path, error.errno) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise RunFolderError(
                f"'{path}' cannot be written: {error.strerror}. Choose another folder."
            ) from error
        if error.errno in _NO_PLACE and _is_about(error, path):
            name = str(path) if len(str(path)) <= 200 else f"{str(path)[:100]}..."
            raise RunFolderError(
                f"'{name}' cannot be made: {error.strerror}. A file may be in the way, or the name"
                " is none that files can have. Choose another folder."
            ) from error
        raise


def _is_about(error: OSError, path: Path) -> bool:
    """Whether an error is of this path, or one above or below it, and not of some other file."""
    named = str(error.filename or "")
    return bool(named) and (str(path).startswith(named) or named.startswith(str(path)))


def atomic_write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path``, wholly or not at all."""
    with atomic_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Yield an empty temporary file that takes the place of ``path`` when the block ends well.

    When the block raises, the temporary file goes and ``path`` stays as it was. Who writes files by
    name may write the temporary one (``file.name``).
    """
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path.parent)
        try:
            with temporary.open("xb") as file:
                _hold(file.fileno())
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync(path.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _temporary(folder: Path) -> Path:
    """A name in ``folder`` that nobody has yet.

    What is made under it gets the mode that the umask gives; ``tempfile`` would give it to its
    owner alone, and to nobody who is to load the student.
    """
    return folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, wholly or not at all."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path``; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    atomic_write_text(path, text + "\n")


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder that takes the place of ``path`` when the block ends well.

    When the block raises, the temporary folder goes and ``path`` stays as it was.
    """
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path.parent)
        temporary.mkdir()
        handle = os.open(temporary, os.O_RDONLY)
        try:
            _hold(handle)
            yield temporary
            _give_usual_modes(temporary)
            sync_tree(temporary)
            # A folder cannot be replaced in one step: the old one moves aside first.
            old = _moved_aside(path)
            try:
                os.replace(temporary, path)
            except OSError:
                if old is not None:
                    os.replace(old, path)
                raise
            sync(path.parent)
            if old is not None:
                _delete(old)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            os.close(handle)


def _give_usual_modes(folder: Path) -> None:
    """Let whoever may read the folder read its files: safetensors writes for the owner alone."""
    usual = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        mode = path.stat().st_mode
        if path.is_file() and mode | usual != mode:
            path.chmod(stat.S_IMODE(mode | usual))


def remove_directory(path: str | Path) -> None:
    """Remove a folder or a file, wholly or not at all; nothing happens when there is none."""
    path = Path(path)
    with disk_errors(path):
        old = _moved_aside(path)
        if old is not None:
            _delete(old)


def _delete(path: Path) -> None:
    """Delete what is there: a folder with all in it, a file, or a link and not what it leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _moved_aside(path: Path) -> Path | None:
    """The temporary name that what is at ``path`` was given; None when nothing is there."""
    if not os.path.lexists(path):
        return None
    aside = _temporary(path.parent)
    os.replace(path, aside)
    return aside


def sync(path: str | Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk for good."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot flush a folder, and do not need to.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def sync_tree(folder: str | Path) -> None:
    """Wait until everything in a folder is on the disk for good."""
    for place, _, names in os.walk(folder):
        for name in names:
            sync(os.path.join(place, name))
        sync(place)


def remove_leftovers(folder: str | Path, *, alone: bool = True) -> None:
    """Remove what killed processes left half-written; unless ``alone``, what others write stays."""
    # What somebody else removes meanwhile is walked past; rglob would raise.
    for place, folders, names in os.walk(folder):
        found = [name for name in (*folders, *names) if name.startswith(TEMPORARY_PREFIX)]
        folders[:] = [name for name in folders if name not in found]
        for name in found:
            leftover = Path(place, name)
            with contextlib.suppress(OSError):
                if alone or _is_abandoned(leftover):
                    _delete(leftover)


def _is_abandoned(path: Path) -> bool:
    """Whether nobody holds a file or folder; OSError where somebody does, or nobody can know."""
    if time.time() - path.lstat().st_mtime < _NOT_HELD_YET:
        return False
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    finally:
        os.close(handle)


def _hold(handle: int) -> None:
    """Say that a process lives that writes this, as long as it is open."""
    with contextlib.suppress(OSError):  # some network file systems have no locks
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def append_jsonl(path: str | Path, row: Mapping[str, Any]) -> None:
    """Append one row to a JSON Lines file, in one write."""
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file of ours up to the first that a kill cut short or damaged."""
    path = Path(path)
    if not path.exists():
        return []
    rows = []
    # Not splitlines(): text inside a row may hold other characters that end a line in Unicode.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        if not line:
            continue
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows


def read_json(path: str | Path) -> Any:
    """The value in a JSON file of ours."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_json_or(path: str | Path, default: Any) -> Any:
    """The value in a JSON file of ours; ``default`` when it is not there, empty, torn or damaged.

    For records without which a run goes on; see ``proofs.read_sealed`` for proofs.
    """
    try:
        value = read_json(path)
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return default
    return value if isinstance(value, type(default)) else default


def plain_json(value: Any) -> Any:
    """The value as JSON gives it back: tuples become lists, keys become text."""
    return json.loads(json.dumps(value, allow_nan=False))
