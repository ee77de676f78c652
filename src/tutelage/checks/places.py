"""Whether a run folder can be made where it is wanted."""

import os
from pathlib import Path

from tutelage.addresses import file_system_class, is_address
from tutelage.checks.findings import Findings
from tutelage.errors import RunFolderError

_NOT_DISKS = ("/proc", "/sys", "/dev")
_LONGEST = 255  # bytes of a name, on all usual file systems
_ROOM = 150  # of a path, for what is written below it


def check_places(findings: Findings, run_dir: str | Path | None) -> None:
    """Run folder and folder of all runs are folders or can become some; stores may be elsewhere."""
    if run_dir is not None:
        with findings.about("--run-dir"):
            check_folder_can_be(Path(run_dir))
    with findings.about("output"):
        check_folder_can_be(Path(findings.loaded.recipe.output))
    for name, teacher in findings.loaded.recipe.ladder.items():
        for folder in teacher.store_folders:
            with findings.about(f"{findings.teacher_key(name)}.store"):
                if is_address(folder):
                    file_system_class(folder)
                else:
                    check_folder_can_be(Path(folder))


def check_folder_can_be(path: Path) -> None:
    """Refuse a path at which no folder is and none can be made; nothing is written.

    Raises:
        RunFolderError: says what is in the way.
    """
    if is_address(path):
        raise RunFolderError(
            f"'{str(path).replace(':/', '://', 1)}' is an address, and what is made is written to a"
            " folder. Name one: on a file system that is mounted here, or copy it afterwards. (A"
            " teacher's store alone may be at an address: teacher.store.)"
        )
    absolute = Path(os.path.abspath(path.expanduser()))
    text = str(absolute)
    shown = f"'{path}'" if len(text) <= 200 else f"'{text[:100]}...'"
    too_long = any(len(os.fsencode(part)) > _LONGEST for part in absolute.parts)
    if too_long or len(os.fsencode(text)) > os.pathconf("/", "PC_PATH_MAX") - _ROOM:
        raise RunFolderError(f"{shown} is too long for a path. Choose a shorter one.")
    if "\0" in text:
        raise RunFolderError(f"{shown!r} holds a NUL character. Choose another folder.")
    if any(absolute.is_relative_to(root) for root in _NOT_DISKS):
        raise RunFolderError(f"{shown} is no place for files. Choose another folder.")
    nearest = absolute
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        at = "is a file" if nearest == absolute else f"lies below '{nearest}', which is a file"
        raise RunFolderError(f"{shown} {at}, and a folder is needed. Choose another one.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RunFolderError(
            f"{shown} cannot be written: '{nearest}' is not yours to write in. Choose another"
            " folder."
        )
