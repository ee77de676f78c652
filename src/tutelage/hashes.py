"""The content of large files, hashed once and remembered.

Whether a result is still fresh depends on every byte of the models that it was made from. Reading
many gigabytes at every start would cost minutes, so the digest of a large file is kept beside what
the file system says of it: place, size, time of the last change, inode, and the time when the inode
changed. That last time is set by the system alone: ``cp -p``, ``touch -r`` and a rewrite of the
same length leave a trace there. A file that changed a moment ago is not remembered, because a
second change within the clock's grain would leave none. Where the memory is damaged or cannot be
written, files are hashed again.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from tutelage.files import remove_leftovers
from tutelage.proofs import read_sealed, write_sealed

_SMALL = 16 << 20
"""Files below this are hashed every time: that takes less than looking after them."""
_SETTLED_SECONDS = 2.0
_BLOCK = 1 << 22
_MEMORY = "hashes.json"
_MOST_REMEMBERED = 5000


def cache_folder() -> Path:
    """What lasts beyond a run folder: ``$TUTELAGE_CACHE``, else ``~/.cache/tutelage``."""
    return Path(os.environ.get("TUTELAGE_CACHE") or "~/.cache/tutelage").expanduser()


def content_sha256(path: str | Path) -> str:
    """The SHA-256 of a file's whole content, from memory when the file is unchanged."""
    return content_digests([Path(path)])[Path(path)]


def content_digests(
    paths: Iterable[Path], progress: Callable[[int, int], None] | None = None
) -> dict[Path, str]:
    """The SHA-256 of the whole content of each file.

    Args:
        paths: existing files.
        progress: called with the bytes read and all bytes to read.
    """
    found, asked, stamps = {}, [], {}
    memory: dict[str, Any] | None = None
    for path in paths:
        stamps[path] = stamp = _stamp(path)
        if stamp[1] >= _SMALL:
            memory = _read_memory() if memory is None else memory
            known = memory.get(stamp[0])
            if known is not None and known[:-1] == stamp[1:]:
                found[path] = known[-1]
                continue
        asked.append(path)
    found.update(_hash_all(asked, progress))
    now = time.time_ns()
    fresh = {
        stamps[path][0]: [*stamps[path][1:], found[path]]
        for path in asked
        if stamps[path][1] >= _SMALL
        and stamps[path] == _stamp(path)
        and now - max(stamps[path][2:4]) > _SETTLED_SECONDS * 1e9
    }
    if fresh:
        _remember(fresh)
    return found


def unhashed_bytes(paths: Iterable[Path]) -> int:
    """How much ``content_digests`` would have to read of these files."""
    memory = _read_memory()
    unread = 0
    for path in paths:
        name, *stamp = _stamp(path)
        unread += 0 if memory.get(name, [])[:-1] == stamp else stamp[0]
    return unread


def _stamp(path: Path) -> list[Any]:
    """The file's place, then what changes when its content does: size, times, inode, device."""
    real = path.resolve()
    status = real.stat()
    return [
        str(real), status.st_size, status.st_mtime_ns, status.st_ctime_ns,
        status.st_ino, status.st_dev,
    ]  # fmt: skip


def _hash_all(paths: list[Path], progress: Callable[[int, int], None] | None) -> dict[Path, str]:
    """Hash files side by side; hashlib lets other threads run meanwhile."""
    if len(paths) == 1 and progress is None:
        return {paths[0]: _sha256(paths[0], [])}
    if not paths:
        return {}
    done: list[int] = []
    total = sum(path.stat().st_size for path in paths)
    with ThreadPoolExecutor(min(len(paths), os.cpu_count() or 1, 8)) as pool:
        jobs = {path: pool.submit(_sha256, path, done) for path in paths}
        unfinished = set(jobs.values())
        while unfinished:
            unfinished = wait(unfinished, timeout=0.5).not_done
            if progress is not None:
                progress(sum(done), total)
        return {path: job.result() for path, job in jobs.items()}


def _sha256(path: Path, done: list[int]) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done.append(len(block))
    return digest.hexdigest()


def _read_memory() -> dict[str, Any]:
    """What is remembered; nothing when the file is missing or damaged."""
    try:
        return (read_sealed(cache_folder() / _MEMORY) or {"files": {}})["files"]
    except OSError:
        return {}


def _remember(fresh: dict[str, Any]) -> None:
    # Two processes may write at once: the later one wins, and the other's files are hashed again.
    entries = {**_read_memory(), **fresh}
    entries = dict(list(entries.items())[-_MOST_REMEMBERED:])
    with contextlib.suppress(OSError):
        remove_leftovers(cache_folder(), alone=False)
        write_sealed(cache_folder() / _MEMORY, {"files": entries})
