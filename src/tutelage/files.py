"""Writing files so that a reader never sees half of one: a temporary name first, then a rename.

A killed process leaves at most a file or folder whose name starts with ``.tmp-``; it is never read.
"""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.errors import RunFolderError

TEMPORARY_PREFIX = ".tmp-"
_NO_PLACE = {
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EINVAL,
    errno.ENOENT,
}
"""A path that is none, or below something that is no folder."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn the disk's refusals into one message that says what was not written."""
    try:
        yield
    except OSError as error:
        if isinstance(error, RunFolderError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunFolderError(
                f"The disk is full: '{path}' was not written. What was there before is unharmed."
                " Free some space and give the same command again: it continues from there."
            ) from error
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
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path.parent)
        try:
            with temporary.open("xb") as file:
                file.write(content)
            os.replace(temporary, path)
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
        try:
            yield temporary
            _give_usual_modes(temporary)
            if path.exists():
                # A folder cannot be replaced in one step: the old one moves aside first.
                aside = _temporary(path.parent)
                aside.mkdir()
                os.replace(path, aside / "old")
                os.replace(temporary, path)
                shutil.rmtree(aside)
            else:
                os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _give_usual_modes(folder: Path) -> None:
    """Let whoever may read the folder read its files: safetensors writes for the owner alone."""
    usual = folder.stat().st_mode & 0o666
    for path in folder.rglob("*"):
        mode = path.stat().st_mode
        if path.is_file() and mode | usual != mode:
            path.chmod(stat.S_IMODE(mode | usual))


def remove_leftovers(folder: str | Path) -> None:
    """Remove what killed processes left half-written in ``folder`` and below it."""
    for leftover in sorted(Path(folder).rglob(f"{TEMPORARY_PREFIX}*")):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def append_jsonl(path: str | Path, row: Mapping[str, Any]) -> None:
    """Append one row to a JSON Lines file, in one write."""
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file of ours; a last line cut short by a kill is left out."""
    path = Path(path)
    if not path.exists():
        return []
    rows = []
    # Not splitlines(): text inside a row may hold other characters that end a line in Unicode.
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line:
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def read_json(path: str | Path) -> Any:
    """The value in a JSON file of ours."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def file_sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, as hexadecimal digits."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """The SHA-256 of a JSON value in its canonical form: the same value, the same 64 digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
