"""Whether the disks have room for the stores that a run would write."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.data.lengths import count_response_tokens
from tutelage.files import nearest_folder
from tutelage.pipeline.context.display import size_text
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.data import rows_of
from tutelage.pipeline.stages.store import (
    LIVE,
    StorePlace,
    asked_signal,
    may_store,
    strongest_place,
)
from tutelage.recipe import Recipe
from tutelage.teachers.store import ROOM, free_bytes, store_bytes, store_need, token_bytes


def lacking(
    session: Session, wanted: Iterable[tuple[StorePlace, Sequence[Any]]]
) -> list[tuple[StorePlace, int, int]]:
    """The stores for which a disk has no room, with what they need and what is free, in bytes.

    Args:
        session: the run.
        wanted: stores with the rows that they must hold.
    """
    disks: dict[int, list[tuple[StorePlace, int, Sequence[Any]]]] = defaultdict(list)
    for place, parts in wanted:
        disks[_disk(place.folder)].append((place, _at_most(session, place, parts), parts))
    found = []
    for stores in disks.values():
        free = free_bytes(stores[0][0].folder)
        if sum(size for _, size, _ in stores) * ROOM <= free:
            continue
        # What is there already needs no room; it takes a look at every row to know it.
        needs = [(place, _lacks(session, place, parts)) for place, _, parts in stores]
        if sum(size for _, size in needs) * ROOM > free:
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
    top_k = session.recipe.ladder[place.teacher].top_k
    words = (
        f"'{place.teacher}' runs beside the student: its hidden states need {size_text(size)} and"
        f" {size_text(free)} are free in {nearest_folder(place.folder)}. Another disk can be named"
        " (teacher.store: FOLDER)"
    )
    if top_k >= place.spec.vocab_size:
        return f"{words}."
    hidden_size = session.models.size_of(place.teacher).hidden_size
    few = replace(place.spec, kind="topk", top_k=top_k)
    part = token_bytes(few, hidden_size) / token_bytes(place.spec, hidden_size)
    return (
        f"{words}, and teacher.signal: topk stores the {top_k} likeliest tokens alone, in about"
        f" {size_text(int(size * part))}."
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
    size = session.models.size_of(place.teacher)
    return sum(store_need(place.folders, place.spec, size.hidden_size, one).bytes for one in parts)


def _at_most(session: Session, place: StorePlace, parts: Sequence[Any]) -> int:
    tokens = sum(int(count_response_tokens(rows).sum()) for rows in parts)
    hidden_size = session.models.size_of(place.teacher).hidden_size
    return store_bytes(place.spec, hidden_size, tokens, sum(map(len, parts)))


def _disk(folder: Path) -> int:
    return os.stat(nearest_folder(folder)).st_dev
