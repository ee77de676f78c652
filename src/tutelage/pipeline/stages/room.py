"""Whether the disks have room for the stores that a run would write."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.data.lengths import count_response_tokens
from tutelage.errors import StoreError
from tutelage.files import nearest_folder
from tutelage.pipeline.context.display import size_text
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.data import rows_of
from tutelage.pipeline.stages.store import LIVE, asked_signal, may_store, strongest_place
from tutelage.pipeline.stages.store_place import StorePlace, bring
from tutelage.recipe import Recipe
from tutelage.teachers.store import ROOM, free_bytes, store_bytes, store_need, token_bytes

MUCH = 0.5
"""A store that takes more of what is free on its disk is told of, with what would take less."""

Wanted = Iterable[tuple[StorePlace, Sequence[Any]]]
"""Stores with the rows that they must hold."""


def check_room(session: Session, wanted: Wanted, parts: int = 1) -> None:
    """Refuse stores that the disks cannot hold, before the first of them is begun.

    One that takes much of what is free is told of.

    Args:
        session: the run.
        wanted: the stores that will be filled.
        parts: of how many parts of each this run makes one.

    Raises:
        StoreError: a disk has less room than the stores on it need; says what would need less.
    """
    disks: dict[int, list[tuple[StorePlace, int, int]]] = defaultdict(list)
    for place, size, free in lacking(session, wanted, MUCH * parts):
        disks[_disk(place.folder)].append((place, -(-size // parts), free))
    for stores in disks.values():
        total = sum(size for _, size, _ in stores)
        place, size, free = max(stores, key=lambda store: store[1])
        beside = f", and all stores there {size_text(total)}" if total > size else ""
        words = (
            f"the teacher store '{place.folder}' needs {size_text(size)} of disk{beside};"
            f" {size_text(free)} are free. {_less(session, place, size, total - size, free)}"
        )
        if total * ROOM > free:
            raise StoreError(
                f"T{words[1:]} Or free some space, or name another disk (teacher.store: FOLDER)."
            )
        session.display.note(words)


def _less(session: Session, place: StorePlace, size: int, others: int, free: int) -> str:
    """What would take less room than a store does, in numbers."""
    fits = (free / ROOM - others) / max(size, 1)
    few = _top_k_bytes(session, place, size)
    ways = [
        f"The likeliest {session.recipe.ladder[place.teacher].top_k} tokens alone would take about"
        f" {size_text(few)} (teacher.signal: topk)."
        if few is not None
        else "",
        f"{max(fits, 0):.0%} of the response tokens would fit: limit the examples"
        " (data.limit_train) or their length (data.max_length)."
        if fits < 1
        else "",
        "A teacher that runs beside the student takes no disk, and a pass over every row that is"
        " learned (teacher.signal: live).",
    ]
    return " ".join(filter(None, ways))


def _top_k_bytes(session: Session, place: StorePlace, size: int) -> int | None:
    """What the likeliest tokens would take in place of hidden states; None where they take more."""
    top_k = session.recipe.ladder[place.teacher].top_k
    if place.spec.kind == "topk" or top_k >= place.spec.vocab_size:
        return None
    hidden_size = session.models.size_of(place.teacher).hidden_size
    few = replace(place.spec, kind="topk", top_k=top_k)
    part = token_bytes(few, hidden_size) / token_bytes(place.spec, hidden_size)
    return int(size * part) if part < 1 else None


def lacking(
    session: Session, wanted: Wanted, share: float = 1.0
) -> list[tuple[StorePlace, int, int]]:
    """The stores for which a disk has no room, with what they need and what is free, in bytes.

    Args:
        session: the run.
        wanted: stores with the rows that they must hold.
        share: of what is free that they may take.
    """
    disks: dict[int, list[tuple[StorePlace, int, Sequence[Any]]]] = defaultdict(list)
    for place, parts in wanted:
        disks[_disk(place.folder)].append((place, _at_most(session, place, parts), parts))
    found = []
    for stores in disks.values():
        free = free_bytes(stores[0][0].folder)
        if sum(size for _, size, _ in stores) * ROOM <= share * free:
            continue
        # What is there already needs no room; it takes a look at every row to know it.
        needs = [(place, _lacks(session, place, parts)) for place, _, parts in stores]
        if sum(size for _, size in needs) * ROOM > share * free:
            found += [(place, size, free) for place, size in needs if size]
    return found


def room_note(session: Session, place: StorePlace, size: int, free: int) -> str:
    """Why a teacher is not stored although that would pay, and what could be done about it.

    Args:
        session: the run.
        place: its store.
        size: what the store needs, in bytes.
        free: what is free there.
    """
    words = (
        f"'{place.teacher}' runs beside the student: its hidden states need {size_text(size)} and"
        f" {size_text(free)} are free in {nearest_folder(place.folder)}. Another disk can be named"
        " (teacher.store: FOLDER)"
    )
    few = _top_k_bytes(session, place, size)
    if few is None:
        return f"{words}."
    top_k = session.recipe.ladder[place.teacher].top_k
    return (
        f"{words}, and teacher.signal: topk stores the {top_k} likeliest tokens alone, in about"
        f" {size_text(few)}."
    )


def stores_ahead(session: Session, recipe: Recipe) -> bool:
    """Whether a teacher whose loss is measured before the plan exists is stored for it.

    It is with ``signal: auto`` too, where there is room: measuring is one pass, and training at
    least another.
    """
    asked = asked_signal(session)
    if asked == LIVE or not may_store(session, recipe):
        return False
    place = strongest_place(session, recipe)
    return asked != "auto" or not lacking(session, [(place, [rows_of(session, "train")])])


def _lacks(session: Session, place: StorePlace, parts: Sequence[Any]) -> int:
    bring(session, place)
    size = session.models.size_of(place.teacher)
    return sum(store_need(place.folders, place.spec, size.hidden_size, one).bytes for one in parts)


def _at_most(session: Session, place: StorePlace, parts: Sequence[Any]) -> int:
    tokens = sum(int(count_response_tokens(rows).sum()) for rows in parts)
    hidden_size = session.models.size_of(place.teacher).hidden_size
    return store_bytes(place.spec, hidden_size, tokens, sum(map(len, parts)))


def _disk(folder: Path) -> int:
    return os.stat(nearest_folder(folder)).st_dev
