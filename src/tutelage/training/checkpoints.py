"""Checkpoints that are known to be whole.

A checkpoint counts only when its marker is there; the marker is written last and names every file
with its size. What a killed process left half-written is found and removed.
"""

import json
import re
import shutil
from pathlib import Path

from tutelage.files import atomic_write_json, atomic_write_text, read_json

MARKER = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def mark_complete(folder: str | Path) -> None:
    """Write the marker of a checkpoint whose files are all there."""
    folder = Path(folder)
    files = {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    atomic_write_json(folder / MARKER, {"files": files})


def is_complete(folder: Path) -> bool:
    """Whether a checkpoint has its marker and every file has the size that the marker says."""
    if not (folder / MARKER).is_file():
        return False
    files = read_json(folder / MARKER)["files"]
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in files.items()
    )


def checkpoint_step(folder: Path) -> int:
    """The optimizer step after which a checkpoint was made."""
    match = _NAME.fullmatch(folder.name)
    assert match is not None
    return int(match.group(1))


def checkpoints(folder: str | Path) -> list[Path]:
    """Checkpoint folders, whole or not, from oldest to newest."""
    found = [path for path in Path(folder).glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    return sorted(found, key=checkpoint_step)


def last_checkpoint(folder: str | Path) -> Path | None:
    """The newest whole checkpoint, or None."""
    return next((path for path in reversed(checkpoints(folder)) if is_complete(path)), None)


def rotate(folder: str | Path, keep: int, spared: str | Path | None = None) -> None:
    """Remove broken checkpoints, and whole ones but for the ``keep`` newest and a spared one."""
    whole = [path for path in checkpoints(folder) if is_complete(path)]
    for path in checkpoints(folder):
        if path not in whole[-max(keep, 1) :] and path != (spared and Path(spared)):
            # The marker goes first, so that a kill in the middle leaves no half that looks whole.
            (path / MARKER).unlink(missing_ok=True)
            shutil.rmtree(path)


def truncate_log(path: str | Path, last_step: int) -> None:
    """Drop rows of a JSON Lines log that were written after ``last_step``: they will come again."""
    path = Path(path)
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line:
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # a line cut short by a kill
            break
        if row["step"] <= last_step:
            kept.append(line + "\n")
    atomic_write_text(path, "".join(kept))
