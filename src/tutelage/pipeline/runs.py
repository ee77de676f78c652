"""The run folders below an output folder: what there is, what it takes, and what nobody needs."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.errors import RunFolderError
from tutelage.files import TEMPORARY_PREFIX, disk_errors, read_json_or, remove_directory
from tutelage.locks import taken, unused
from tutelage.pipeline.context.folder import RECORD, USED, kind_of
from tutelage.pipeline.context.session import USERS
from tutelage.proofs import MANIFEST, changed_since, read_sealed

_STAGES = ("data", "difficulty", "arms", "references")
_OWN = re.compile(r"(teacher|texts|store)-[0-9a-f]{12,}(-training)?")
"""What our things in the cache are called, beside ``parts``."""
_PART = re.compile(r"[a-z_]+-[0-9a-f]{16}")
"""What the shared parts are called."""
_ASIDE = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}[0-9a-f]{{16}}")
"""What a run folder is called from when its removal begins."""
_OF_A_RUN = re.compile(
    r"\.lock|\.tmp-.*|(recipe|run|seconds|versions|cache|cost|stopped)\.json|recipe\.yaml"
    r"|(report|live)\.html"
    r"|arms|data|references|signal|(difficulty|student_start)(-.*)?"
)
"""What there is in a run folder that trained nothing; beside anything else it stays."""


@dataclass(frozen=True)
class RunEntry:
    """A run folder in a list.

    Attributes:
        folder: where it is.
        recipe: the recipe's name.
        when: when it was begun.
        state: running, finished, or where it stopped; and that its scores were changed since.
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
        info = read_sealed(folder / "run.json") or {}
        name = info.get("name") or folder.name.rpartition("-")[0] or folder.name
        main = folder / "arms" / str(info.get("main_arm")) / "evaluation" / "scores.json"
        when = info.get("started") or read_json_or(folder / "seconds.json", {}).get("started", "")
        changed = changed_since(main, main.parent / MANIFEST)
        state = _state(folder) + (f", but '{changed}' was changed or damaged" if changed else "")
        scores = {} if changed else _scores(main)
        entries.append(RunEntry(folder, str(name), str(when), state, _bytes(folder), scores))
    return sorted(entries, key=lambda entry: entry.when)


def leftovers(output: str | Path) -> list[Leftover]:
    """What killed runs left half-made, runs that trained nothing, and the cache that none uses.

    Raises:
        RunFolderError: a run is in progress there, which may need any of this; or what a run needs
            is not known, because its record is damaged.
    """
    output = Path(output)
    runs = _run_folders(output)
    elsewhere = _elsewhere(output)
    for folder in (*runs, *elsewhere):
        with _not_in_use(folder):
            pass
    empty = [folder for folder in runs if _trained_nothing(folder)]
    kept = [folder for folder in runs if folder not in empty]
    found = [Leftover(folder, _bytes(folder), "a run that trained nothing") for folder in empty]
    cache = output / "cache"
    # Behind a link others may keep what only their runs know of.
    of_ours = cache.is_dir() and not cache.is_symlink()
    # Beside the runs is what cleaning them, killed, has left of one.
    found += [
        Leftover(path, _bytes(path), "left half-removed by a killed process")
        for path in sorted(output.glob(f"{TEMPORARY_PREFIX}*"))
        if path.is_dir() and not path.is_symlink() and _ASIDE.fullmatch(path.name)
    ]
    for place in (*kept, cache) if of_ours else kept:
        found += [
            Leftover(path, _bytes(path), "left half-made by a killed process")
            for path in place.rglob(f"{TEMPORARY_PREFIX}*")
        ]
    if not of_ours:
        return found
    users = (*kept, *elsewhere)
    used = {name for folder in users for name in _used(folder)}
    if all((folder / USED).is_file() for folder in users):
        found += _unused(cache, _OWN, used, "used by no run")
    return [*found, *_unused(cache / "parts", _PART, used, "a part that no run has")]


def _unused(place: Path, ours: re.Pattern[str], used: set[str], why: str) -> Iterator[Leftover]:
    """What is called as ours is, and no run has; links are not ours."""
    for path in sorted(place.iterdir()) if place.is_dir() and not place.is_symlink() else ():
        own = ours.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
        if own and path.name.removesuffix("-training") not in used:
            yield Leftover(path, _bytes(path), why)


def remove(output: str | Path, found: list[Leftover]) -> int:
    """Remove what :func:`leftovers` found and still finds; how many bytes that freed.

    Raises:
        RunFolderError: a run was begun meanwhile. One that is begun now waits for the end of this.
    """
    with unused(Path(output) / "cache"):
        still = {leftover.path for leftover in leftovers(output)}
        gone = [leftover for leftover in found if leftover.path in still]
        for leftover in gone:
            with _not_in_use(leftover.path):
                remove_directory(leftover.path)
    return sum(leftover.bytes for leftover in gone)


def _run_folders(output: Path) -> list[Path]:
    with disk_errors(output):
        if not output.is_dir():
            return []
    return sorted(
        p
        for p in output.iterdir()
        if p.is_dir() and (p / RECORD).is_file() and not _ASIDE.fullmatch(p.name)
    )


def _elsewhere(output: Path) -> list[Path]:
    """Run folders in other places that have used this cache, as far as they are still there."""
    known = {folder.resolve() for folder in _run_folders(output)}
    named = [_needs(path)["run"] for path in sorted((output / "cache" / USERS).glob("*.json"))]
    places = {Path(name).resolve() for name in named}
    return sorted(place for place in places - known if (place / RECORD).is_file())


def _scores(path: Path) -> dict[str, float]:
    scores = read_json_or(path, {}).get("scores")
    means = {
        metric: score.get("mean")
        for metric, score in (scores.items() if isinstance(scores, dict) else ())
        if isinstance(score, dict)
    }
    return {metric: mean for metric, mean in means.items() if isinstance(mean, int | float)}


def _held(folder: Path) -> bool:
    """Whether a process holds the lock of a run folder."""
    lock = folder / ".lock"
    if not lock.is_file():
        return False
    with lock.open("r", encoding="utf-8") as file:
        return not taken(file)


@contextlib.contextmanager
def _not_in_use(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, where there is one, so that no run begins in it meanwhile."""
    with contextlib.ExitStack() as stack:
        if (folder / ".lock").is_file():
            file = stack.enter_context((folder / ".lock").open("r", encoding="utf-8"))
            if not taken(file):
                raise RunFolderError(
                    f"'{folder}' is in use, and a run may need what looks unused. Wait for it to"
                    " end, then clean."
                )
        yield


def _state(folder: Path) -> str:
    if _held(folder):
        return "running"
    info = read_sealed(folder / "run.json") or {}
    if info.get("finished"):
        return "finished"
    for arm in sorted(folder.glob("arms/*")):
        if (arm / "training").is_dir() and not (arm / "student").is_dir():
            return f"stopped: training {arm.name}"
    done = [stage for stage in _STAGES if (folder / stage).is_dir()]
    if "arms" in done:
        trained = [path.parent.name for path in sorted(folder.glob("arms/*/student"))]
        return f"stopped after {', '.join(trained)}" if trained else "planned, nothing trained"
    return f"stopped after {done[-1] if done else 'its start'}"


def _trained_nothing(folder: Path) -> bool:
    """Whether a folder is surely a run's, with no student, no work towards one and nothing else."""
    return (
        not folder.is_symlink()
        and read_sealed(folder / RECORD) is not None
        and all(_OF_A_RUN.fullmatch(path.name) for path in folder.iterdir())
        and not any(folder.glob("arms/*/student"))
        and not any(folder.glob("arms/*/training/checkpoint-*"))
        and not any(folder.glob("student_start*"))
    )


def _used(folder: Path) -> Iterator[str]:
    """Names in the cache of what a run has or has read."""
    if (folder / USED).is_file():
        yield from _needs(folder / USED)["names"]
    for manifest in sorted(folder.rglob(MANIFEST)):
        name = str(manifest.parent.relative_to(folder))
        yield f"{kind_of(name)}-{_needs(manifest)['fingerprint'][:16]}"


def _needs(record: Path) -> dict[str, Any]:
    """A record of what a run needs; half of it would let the rest be cleaned."""
    value = read_sealed(record)
    if value is None:
        raise RunFolderError(
            f"'{record}' is damaged, and says what a run needs. Give the command of that run again,"
            " which mends it, or delete the file if the run is not needed any more; then clean."
        )
    return value


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
