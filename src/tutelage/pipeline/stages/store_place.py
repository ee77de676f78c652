"""Where the teacher stores of a run are: folders, or addresses with a folder here for each."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.addresses import is_address
from tutelage.errors import TutelageError
from tutelage.pipeline.context.identity import tokenizer_identity
from tutelage.pipeline.context.session import Session
from tutelage.proofs import fingerprint
from tutelage.recipe import Recipe
from tutelage.teachers import Mirror, StoreSpec


@dataclass(frozen=True)
class StorePlace:
    """A store of a run.

    Attributes:
        teacher: the teacher's name.
        folders: where it is; of several the first is filled, and all are read.
        spec: what it holds.
        mirrors: of those folders that are kept the same as what an address holds.
    """

    teacher: str
    folders: tuple[Path, ...]
    spec: StoreSpec
    mirrors: tuple[Mirror, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder that is filled."""
        return self.folders[0]

    @property
    def filled(self) -> Mirror | None:
        """The mirror that is filled, if it is one."""
        return next((one for one in self.mirrors if one.folder == self.folder), None)

    @property
    def title(self) -> str:
        """What is filled, as messages call it."""
        return str(self.folder) if self.filled is None else self.filled.title


def store_place(session: Session, name: str, recipe: Recipe, kind: str) -> StorePlace:
    """Where a teacher's signal is stored for an arm, and what that store must hold."""
    teacher = session.recipe.ladder[name]
    half = "bfloat16" in (teacher.dtype, recipe.training.precision)
    spec = StoreSpec(
        kind="topk" if kind == "topk" else "hidden",
        teacher=session.models.teacher_identity(name),
        tokenizer=tokenizer_identity(session.models.tokenizer),
        vocab_size=session.models.vocab_size,
        # What the head's product reads: rounding it when it is stored changes nothing.
        dtype="bfloat16" if half else "float32",
        top_k=teacher.top_k if kind == "topk" else None,
    )
    if not teacher.store_folders:
        return StorePlace(name, (session.cached(f"store-{spec.key}"),), spec)
    mirrors = {one: _mirror(session, one) for one in teacher.store_folders if is_address(one)}
    folders = (
        mirrors[one].folder if one in mirrors else Path(one) for one in teacher.store_folders
    )
    return StorePlace(name, tuple(folders), spec, tuple(mirrors.values()))


def _mirror(session: Session, address: str) -> Mirror:
    if address not in session.mirrors:
        folder = session.cached(f"store-{fingerprint(address)[:16]}")
        session.mirrors[address] = Mirror(address, folder)
    return session.mirrors[address]


def bring(session: Session, place: StorePlace) -> None:
    """Bring what the addresses of a store have and their folders lack, once in a run.

    The first process does it, and nothing is done in the others.
    """
    if not session.processes.is_first:
        return
    for mirror in place.mirrors:
        here = mirror.address, place.spec.key
        if here in session.brought:
            continue
        # Runs that share a cache bring it once: who comes second finds it there.
        lock = f"bring-{mirror.folder.name}"
        with session.holding(lock, alone=True, title=f"a copy of {mirror.address}"):
            must = mirror is not place.filled
            mirror.bring(place.spec, must=must, task=session.display.task)
        session.brought.add(here)


def send(session: Session, place: StorePlace, names: Sequence[str] | None = None) -> None:
    """Send what the address of a store lacks; of shards those with some names, or all."""
    if place.filled is not None:
        place.filled.send(names, task=session.display.task)


@contextlib.contextmanager
def sending(session: Session, place: StorePlace) -> Iterator[Callable[[str], Any] | None]:
    """Send each shard whose name the yielded function is told, while others are being made.

    What has not begun to be sent when the block ends is left to ``send``, and so is what could not
    be sent: the teacher does not stop for a network.
    """
    mirror = place.filled
    if mirror is None:
        yield None
        return
    told = False

    def send_one(name: str) -> None:
        nonlocal told
        try:
            mirror.send([name])
        except TutelageError as error:
            if not told:
                session.display.note(f"{error} (The pass goes on; at its end it is tried again.)")
            told = True

    pool = ThreadPoolExecutor(1, "sending")
    try:
        yield lambda name: pool.submit(send_one, name)
    finally:
        pool.shutdown(cancel_futures=True)
