"""``tutelage cache``: a recipe's teachers stored, and nothing trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.errors import ConfigError
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.run import prepared
from tutelage.pipeline.stages.room import check_room
from tutelage.pipeline.stages.store import (
    LIVE,
    asked_signal,
    fill,
    may_store,
    open_store,
    stores_wanted,
)
from tutelage.pipeline.stages.store_error import TopKError, topk_error
from tutelage.pipeline.stages.store_place import StorePlace
from tutelage.teachers import Need, join_rows, store_need


@dataclass(frozen=True)
class Cached:
    """A teacher's store, as it is after caching.

    Attributes:
        teacher: the teacher's name.
        folder: where the store is; of one at an address, the folder in which it is kept here.
        kind: hidden or topk.
        examples: what it holds.
        response_tokens: what it holds.
        bytes: what it takes on disk.
        added: examples that were stored just now.
        errors: for topk, what it loses beside the whole teacher.
        address: where the store is, if it is at an address.
    """

    teacher: str
    folder: Path
    kind: str
    examples: int
    response_tokens: int
    bytes: int
    added: int
    errors: tuple[TopKError, ...] = ()
    address: str = ""


def cache(
    recipe: str,
    overrides: Sequence[str] = (),
    *,
    run_dir: Path | None = None,
    quiet: bool | None = None,
    part: tuple[int, int] = (0, 1),
) -> list[Cached]:
    """Store what a recipe's teachers say about its data, without training.

    Several processes may do this at the same time, in run folders of their own, on one machine or
    several that see the same cache: they share the work. Of one that is lost the others make what
    it was at.

    With ``signal: auto`` hidden states are stored. What is there already is not computed again, so
    a later run, of this or another recipe with the same teacher and data, finds it.

    Args:
        recipe: name or path.
        overrides: ``a.b=c``.
        run_dir: the run folder.
        quiet: show no progress; None shows it on a terminal and in a notebook.
        part: number (from 0) and count of the parts of which this makes one, for machines that
            share no folder: ``teacher.store`` then names the folders of all, or an address.

    Raises:
        ConfigError: no arm learns from distributions that can be stored.
    """
    found = []
    with prepared(recipe, overrides, run_dir=run_dir, quiet=quiet, plans=False) as session:
        asked = asked_signal(session)
        kind = "topk" if asked == "topk" else "hidden"
        arms = [a for a, r in session.loaded.arms.items() if may_store(session, r)]
        if not arms or asked == LIVE:
            raise ConfigError(
                "There is nothing to store: "
                + (
                    "the recipe says signal: live. Leave it out, or say hidden."
                    if asked == LIVE
                    else "no arm compares its student with a teacher's distributions on given"
                    " answers. Answers that teachers write are kept without it."
                )
            )
        wanted = stores_wanted(session, dict.fromkeys(arms, kind))
        session.processes.by_first(check_room, session, wanted, part[1])
        for place, parts in wanted:
            need = fill(session, place, parts, shared=True, part=part)
            found.append(
                session.processes.by_first(_cached, session, place, parts, need, part[1] == 1)
            )
    return found


def _cached(
    session: Session, place: StorePlace, parts: Sequence[Any], need: Need, whole: bool
) -> Cached:
    """What there is now; ``whole`` tells that nothing was left to others."""
    store, added, errors = open_store(session, place), need.examples, []
    if not whole:
        size = session.models.size_of(place.teacher)
        rows = join_rows(parts)
        added -= store_need(place.folders, place.spec, size.hidden_size, rows).examples
    elif place.spec.kind == "topk" and not session.cuts("teacher"):
        errors = topk_error(session, place, parts)
    return Cached(
        place.teacher,
        place.folder,
        place.spec.kind,
        store.examples,
        store.tokens,
        store.bytes_on_disk(),
        added,
        tuple(errors),
        "" if place.filled is None else place.filled.address,
    )
