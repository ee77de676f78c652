"""Parts that several runs share: what one has made, another takes instead of making it again.

A part that is made is also kept in ``output/cache/parts``, under the fingerprint of what it was
made from. Large files are the same file under two names (a hard link), where the disk can do that,
and so take no room twice; small ones are copied, so that whoever edits a card or a configuration in
a run folder edits that one alone.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tutelage.files import atomic_directory, read_json, remove_directory
from tutelage.pipeline.context.folder import BESIDE, OF_THE_RUN, PartsFolder, kind_of, part_digest
from tutelage.proofs import MANIFEST, read_sealed, write_sealed

RECORD = "shared.json"
"""Who made a shared part."""

_OF_OLD = {"student": ("evaluation_last*", "training")}
"""What belongs to an older student alone: patterns of names."""

_LINKED = 1 << 20
"""Files of so many bytes are linked; records, to which lines are appended, never are."""

_LOOKED_AT = 50


class SharedParts:
    """The parts that runs share.

    Args:
        path: their folder; made when the first one is kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def place(self, name: str, inputs: Mapping[str, Any]) -> PartsFolder:
        """Where a part with these inputs is kept, with what belongs to it, there or not."""
        return PartsFolder(self.path / f"{kind_of(name)}-{part_digest(name, inputs)[:16]}")

    def has(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """Whether a part with these inputs is kept; it may prove damaged when it is taken."""
        return self.place(name, inputs).path.is_dir()

    def put(self, run: PartsFolder, name: str, inputs: Mapping[str, Any], recipe: str) -> None:
        """Keep a part of a run, unless it is kept already.

        Args:
            run: the run folder.
            name: the part.
            inputs: what it was made from.
            recipe: name of the recipe; empty for one that is no relative of others.
        """
        kept, kind = self.place(name, inputs), kind_of(name)
        if (kept.part(kind) / MANIFEST).is_file():
            return
        own = run.part(name)
        with atomic_directory(kept.path) as folder:
            _copy(own, folder / kind)
            for written in OF_THE_RUN:  # each run writes its own
                (folder / kind / written).unlink(missing_ok=True)
            for beside in BESIDE.get(kind, ()):
                if (own.parent / beside).exists():
                    _copy(own.parent / beside, folder / beside)
            facts = {"part": name, "run": str(run.path), "recipe": recipe}
            write_sealed(folder / RECORD, facts)

    def take(
        self,
        run: PartsFolder,
        name: str,
        inputs: Mapping[str, Any],
        pay: Callable[[Mapping[str, Any]], Any] = lambda paid: None,
    ) -> str | None:
        """Put a kept part into a run folder, in place of what is there.

        One that is damaged goes, so that it is kept anew when it has been made anew.

        Args:
            run: the run folder.
            name: the part.
            inputs: what it was made from.
            pay: called with what was paid for it, before the part is there: a run that is killed
                meanwhile takes it again, and one that has it does not ask what it cost.

        Returns:
            The run that made it; None when there is none that is whole.
        """
        kept, kind = self.place(name, inputs), kind_of(name)
        kept.tell = run.tell
        record = read_sealed(kept.path / RECORD)
        if record is None and kept.path.is_dir():
            run.tell(
                f"{name}: '{kept.path / RECORD}' is missing or damaged, so what is kept there is"
                " not taken"
            )
        if record is None or not kept.fresh(kind, inputs):
            remove_directory(kept.path)  # damaged: it is kept again when it is made again
            return None
        pay(kept.paid(kind))
        try:
            self._give(kept, run, name, inputs)
        except FileNotFoundError:  # another run found it damaged just now
            return None
        return record["run"]

    def _give(
        self, kept: PartsFolder, run: PartsFolder, name: str, inputs: Mapping[str, Any]
    ) -> None:
        kind = kind_of(name)
        own = run.part(name)
        if not run.fresh(name, inputs):
            for pattern in (*BESIDE.get(kind, ()), *_OF_OLD.get(kind, ())):
                for old in own.parent.glob(pattern):
                    remove_directory(old)
        for one in BESIDE.get(kind, ()):
            if (kept.path / one).exists() and not (own.parent / one).exists():
                _copy(kept.path / one, own.parent / one)
        # The part itself comes last: it says that all of it is there.
        with atomic_directory(own) as folder:
            for child in kept.part(kind).iterdir():
                _copy(child, folder / child.name)

    def relatives(self, name: str, recipe: str) -> list[tuple[Mapping[str, Any], str]]:
        """Inputs of the kept parts of the same name and recipe, and the runs that made them.

        Args:
            name: of the part.
            recipe: name of the recipe.
        """
        kind, found = kind_of(name), []
        records = sorted(self.path.glob(f"{kind}-*/{RECORD}"), key=_age)[:_LOOKED_AT]
        for path in records:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                record = read_sealed(path) or {}
                if record["part"] == name and record["recipe"] == recipe:
                    inputs = read_json(path.parent / kind / MANIFEST)["inputs"]
                    found.append((inputs, record["run"]))
        return found


def _age(path: Path) -> float:
    with contextlib.suppress(OSError):
        return -path.stat().st_mtime
    return 0.0


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder; large files become second names of the same file where they can."""
    if source.is_dir():
        target.mkdir(parents=True)
        for child in source.iterdir():
            _copy(child, target / child.name)
        return
    if source.stat().st_size >= _LINKED and source.suffix != ".jsonl":
        with contextlib.suppress(OSError):  # another disk, or one that has no links
            os.link(source, target)
            return
    shutil.copy2(source, target)
