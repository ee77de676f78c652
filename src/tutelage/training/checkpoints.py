"""Checkpoints that are known to be whole.

A checkpoint counts only when its marker is there; the marker is written last and holds the checksum
of every file, and of the logs as they were then. What a killed process left half-written, and what
was damaged since, is passed over and removed.
"""

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tutelage.files import atomic_write_text, remove_directory, sync_tree
from tutelage.proofs import checksums, damaged_file, file_crc32, read_sealed, write_sealed

MARKER = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def mark_complete(folder: str | Path, logs: Iterable[str | Path] = ()) -> None:
    """Write the marker of a folder whose files are all there.

    Args:
        folder: the checkpoint.
        logs: files that grow with the training; the marker vouches for what they hold now.
    """
    folder = Path(folder)
    sync_tree(folder)
    # Logs by name: a run folder may be moved.
    held = {path.name: _upto_now(path) for path in map(Path, logs)}
    write_sealed(
        folder / MARKER,
        {"step": _step(folder), "files": checksums(folder, without=(MARKER,)), "logs": held},
    )


def _upto_now(log: Path) -> list[int]:
    return [log.stat().st_size, file_crc32(log)] if log.is_file() else [0, 0]


def is_complete(folder: Path) -> bool:
    """Whether a checkpoint has its marker and every file has the size that the marker says."""
    marker = read_sealed(folder / MARKER)
    if marker is None:
        return False
    sizes = {name: size for name, (size, _) in marker["files"].items()}
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in sizes.items()
    )


def damage(folder: Path, logs: Iterable[str | Path] = ()) -> str | None:
    """What is wrong with a checkpoint, in a few words; None when all of it is as it was written.

    Args:
        folder: the checkpoint.
        logs: the logs that were named when it was made.
    """
    marker = read_sealed(folder / MARKER)
    if marker is None:
        return f"it has no whole '{MARKER}'"
    if marker["step"] != _step(folder):
        return f"its '{MARKER}' is that of step {marker['step']}"
    bad = damaged_file(folder, marker["files"])
    if bad is not None:
        return f"'{bad}' is missing or damaged"
    for log in map(Path, logs):
        size, checksum = marker["logs"].get(log.name, [0, 0])
        if size and not (log.is_file() and file_crc32(log, size) == checksum):
            return f"the log '{log.name}' was changed or damaged"
    return None


def cut_logs(checkpoint: Path | None, logs: Iterable[str | Path]) -> None:
    """Cut logs to what they held when a checkpoint was made: what came after it comes again.

    Nobody vouches for the rest, which may be damaged: a row may have got another step's number.

    Args:
        checkpoint: a whole one; None: training begins, and there is nothing yet.
        logs: the logs that were named when it was made.
    """
    marker = (checkpoint and read_sealed(checkpoint / MARKER)) or {}
    for log in map(Path, logs):
        size, _ = marker.get("logs", {}).get(log.name, [0, 0])
        if log.is_file() and log.stat().st_size > size:
            os.truncate(log, size)


def checkpoint_step(folder: Path) -> int:
    """The optimizer step after which a checkpoint was made."""
    step = _step(folder)
    assert step is not None
    return step


def _step(folder: Path) -> int | None:
    """The step in a checkpoint's name; None for another folder that is marked as whole."""
    match = _NAME.fullmatch(folder.name)
    return None if match is None else int(match.group(1))


def checkpoints(folder: str | Path) -> list[Path]:
    """Checkpoint folders, whole or not, from oldest to newest."""
    found = [path for path in Path(folder).glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=checkpoint_step)


def last_checkpoint(
    folder: str | Path,
    *,
    last_step: int | None = None,
    wrong: Callable[[Path], str | None] = damage,
    tell: Callable[[str], Any] = lambda text: None,
) -> Path | None:
    """The newest checkpoint that is as it was written, or None.

    Args:
        folder: where the checkpoints are.
        last_step: look at none after this step.
        wrong: what is wrong with a checkpoint, or None.
        tell: called with a line for each one that is passed over, unless a kill left it unfinished.
    """
    for path in reversed(checkpoints(folder)):
        if last_step is not None and checkpoint_step(path) > last_step:
            continue
        reason = wrong(path)
        if reason is None:
            return path
        if (path / MARKER).exists():
            tell(f"'{path}' cannot be continued from: {reason}.")
    return None


def rotate(folder: str | Path, keep: int, spared: str | Path | None = None) -> None:
    """Remove broken checkpoints, and whole ones but for the ``keep`` newest and a spared one."""
    whole = [path for path in checkpoints(folder) if is_complete(path)]
    for path in checkpoints(folder):
        if path not in whole[-max(keep, 1) :] and path != (spared and Path(spared)):
            remove_directory(path)


def truncate_log(path: str | Path, last_step: int) -> None:
    """Drop rows of a JSON Lines log that were written after ``last_step``: they will come again."""
    path = Path(path)
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        if not line:
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # a line cut short by a kill
            break
        if not isinstance(row, dict) or row.get("step", last_step + 1) > last_step:
            break
        kept.append(line + "\n")
    atomic_write_text(path, "".join(kept))
