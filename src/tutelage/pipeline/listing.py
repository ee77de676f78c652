"""The run folders below an output folder: what there is, what it takes, and what nobody needs."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tutelage.errors import RunFolderError
from tutelage.files import TEMPORARY_PREFIX, read_json_or, remove_directory
from tutelage.pipeline.folder import MANIFEST, RECORD, kind_of
from tutelage.pipeline.session import USED

_STAGES = ("data", "difficulty", "arms", "references")
_OWN = ("teacher-", "texts-", "store-")
"""How our things in the cache begin, beside ``parts``."""


@dataclass(frozen=True)
class RunEntry:
    """A run folder in a list.

    Attributes:
        folder: where it is.
        recipe: the recipe's name.
        when: when it was begun.
        state: running, finished, or where it stopped.
        bytes: what it takes on disk; what other folders hold too counts for each.
        scores: of the main arm, by metric.
    """

    folder: Path
    recipe: str
    when: str
    state: str
    bytes: int
    scores: dict[str, float]


@dataclass(frozen=True)
class Leftover:
    """Something that no run needs.

    Attributes:
        path: a folder or a file of ours.
        bytes: what its removal frees.
        why: what it is.
    """

    path: Path
    bytes: int
    why: str


def list_runs(output: str | Path) -> list[RunEntry]:
    """The run folders directly below an output folder, the oldest first."""
    entries = []
    for folder in _run_folders(Path(output)):
        info = read_json_or(folder / "run.json", {})
        name = info.get("name") or folder.name.rpartition("-")[0] or folder.name
        main = folder / "arms" / str(info.get("main_arm")) / "evaluation" / "scores.json"
        scores = {
            metric: score["mean"]
            for metric, score in read_json_or(main, {}).get("scores", {}).items()
            if score.get("mean") is not None
        }
        when = info.get("started") or read_json_or(folder / "seconds.json", {}).get("started", "")
        entries.append(RunEntry(folder, name, when, _state(folder), _bytes(folder), scores))
    return sorted(entries, key=lambda entry: entry.when)


def leftovers(output: str | Path) -> list[Leftover]:
    """What killed runs left half-made, runs that trained nothing, and the cache that none uses.

    Raises:
        RunFolderError: a run is in progress there; it may need any of this.
    """
    output = Path(output)
    runs = _run_folders(output)
    for folder in runs:
        if _held(folder):
            raise RunFolderError(
                f"'{folder}' is in use, and a run may need what looks unused. Wait for it to end,"
                " then clean."
            )
    empty = [folder for folder in runs if not _trained(folder)]
    kept = [folder for folder in runs if folder not in empty]
    found = [Leftover(folder, _bytes(folder), "a run that trained nothing") for folder in empty]
    cache = output / "cache"
    for place in (*kept, cache) if cache.is_dir() else kept:
        found += [
            Leftover(path, _bytes(path), "left half-made by a killed process")
            for path in place.rglob(f"{TEMPORARY_PREFIX}*")
        ]
    used = {name for folder in kept for name in _used(folder)}
    everything = not all((folder / USED).is_file() for folder in kept)
    for path in sorted(cache.iterdir()) if cache.is_dir() else ():
        name = path.name.removesuffix("-training")
        if path.name.startswith(_OWN) and name not in used and not everything:
            found.append(Leftover(path, _bytes(path), "used by no run"))
    parts = cache / "parts"
    for path in sorted(parts.iterdir()) if parts.is_dir() else ():
        if path.name not in used and not path.name.startswith(TEMPORARY_PREFIX):
            found.append(Leftover(path, _bytes(path), "a part that no run has"))
    return found


def remove(found: list[Leftover]) -> int:
    """Remove what :func:`leftovers` found; how many bytes that freed."""
    for leftover in found:
        if leftover.path.is_dir():
            remove_directory(leftover.path)
        else:
            leftover.path.unlink(missing_ok=True)
    return sum(leftover.bytes for leftover in found)


def _run_folders(output: Path) -> list[Path]:
    if not output.is_dir():
        return []
    return sorted(p for p in output.iterdir() if p.is_dir() and (p / RECORD).is_file())


def _held(folder: Path) -> bool:
    """Whether a process holds the lock of a run folder."""
    lock = folder / ".lock"
    if not lock.is_file():
        return False
    with lock.open("r", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _state(folder: Path) -> str:
    if _held(folder):
        return "running"
    info = read_json_or(folder / "run.json", {})
    if info.get("finished"):
        return "finished"
    for arm in sorted(folder.glob("arms/*")):
        if (arm / "training").is_dir() and not (arm / "student").is_dir():
            return f"stopped: training {arm.name}"
    done = [stage for stage in _STAGES if (folder / stage).is_dir()]
    return f"stopped after {done[-1] if done else 'its start'}"


def _trained(folder: Path) -> bool:
    """Whether there is a student, or work towards one."""
    return any(folder.glob("arms/*/student")) or any(folder.glob("arms/*/training/checkpoint-*"))


def _used(folder: Path) -> Iterator[str]:
    """Names in the cache of what a run has or has read."""
    yield from read_json_or(folder / USED, [])
    for manifest in folder.rglob(MANIFEST):
        name = str(manifest.parent.relative_to(folder))
        digest = read_json_or(manifest, {}).get("fingerprint", "")
        yield f"{kind_of(name)}-{digest[:16]}"


def _bytes(path: Path) -> int:
    """What a file or folder takes on disk; a file with several names in it counts once."""
    if path.is_file():
        return path.stat().st_size
    sizes = {}
    for place, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.lstat(os.path.join(place, name))
                sizes[found.st_dev, found.st_ino] = found.st_size
    return sum(sizes.values())
