"""The teacher stores of a run: what each must hold, filling it, opening it."""

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.data import padding_id
from tutelage.errors import ConfigError
from tutelage.files import atomic_write_json, read_json_or
from tutelage.models.head import check_head
from tutelage.models.shards import shard
from tutelage.pipeline.context.display import size_text
from tutelage.pipeline.context.models import autocast_dtype, device
from tutelage.pipeline.context.session import TIME, Session, call
from tutelage.pipeline.context.suites import agreement_asked, own_suite
from tutelage.pipeline.stages.data import rows_of, rows_to_compare, training_rows
from tutelage.pipeline.stages.store_place import StorePlace, bring, send, sending, store_place
from tutelage.proofs import fingerprint
from tutelage.recipe import Recipe
from tutelage.teachers import (
    Need,
    TeacherStore,
    begin_store,
    check_folders,
    check_space,
    fill_store,
    join_rows,
    store_need,
)
from tutelage.teachers.store import MANIFEST, SPENT, Stamp, beginning

LIVE = "live"

STORING = "teacher store"
"""What the clock calls the filling of stores."""

_NOTED = 0.01
"""Seconds that are the rounding of those that were noted."""


def learns_distributions(recipe: Recipe) -> bool:
    """Whether an arm compares its student with a teacher's distributions while training."""
    return bool(recipe.ladder) and not recipe.loss.is_cross_entropy_alone


def may_store(session: Session, recipe: Recipe) -> bool:
    """Whether an arm's distributions can come from a store: not for the student's own answers."""
    return (
        learns_distributions(recipe)
        and not recipe.on_policy.is_used
        and all(session.models.shares_tokenizer(name) for name in recipe.teachers_used)
    )


def asked_signal(session: Session) -> str:
    """What the recipe says of its teachers, which is the same for all of them."""
    return next((teacher.signal for teacher in session.recipe.ladder.values()), LIVE)


def fill(
    session: Session,
    place: StorePlace,
    parts: Sequence[Any],
    *,
    alone: bool = False,
    shared: bool = False,
    part: tuple[int, int] = (0, 1),
) -> Need:
    """Store a teacher's signal at some rows, as far as it is not there.

    Args:
        session: the run.
        place: the store.
        parts: data sets with ``id``, ``input_ids`` and ``labels``.
        alone: only this process is here; else all of them call this together and share the work.
        shared: take part where another one fills the store; else a run waits for another run.
        part: number (from 0) and count of the parts of which this is to make one; see
            ``fill_store``.

    Returns:
        What was missing.
    """
    if shared:
        return _fill(session, place, parts, alone, part)
    lock = f"store-{fingerprint(str(place.folder.resolve()))[:16]}"
    title = f"the store of {session.recipe.teacher_title(place.teacher)}"
    with session.holding(lock, alone=alone, title=title):
        return _fill(session, place, parts, alone, part)


def _fill(
    session: Session, place: StorePlace, parts: Sequence[Any], alone: bool, part: tuple[int, int]
) -> Need:
    rows = join_rows(parts)
    size = session.models.size_of(place.teacher)
    first = call if alone else session.processes.by_first
    first(_look_at, session, place)
    need = first(store_need, place.folders, place.spec, size.hidden_size, rows)
    paid = first(_pay, session, place)
    if not need.examples:
        return need
    share = replace(need, bytes=-(-need.bytes // part[1]))
    what = "hidden states" if place.spec.kind == "hidden" else f"top {place.spec.top_k} tokens"
    session.display.note(
        f"teacher store: {what} of '{place.teacher}' at {need.response_tokens:,} response tokens of"
        f" {need.examples:,} examples need {size_text(need.bytes)} in {place.title}"
        + (f", of which this part is 1 of {part[1]}" if part[1] > 1 else "")
    )
    first(check_space, place.folder, share)
    if session.processes.is_first:
        session.clock.made(place.folder.name, STORING, paid)
    began = time.monotonic()
    cut = not alone and session.cuts("teacher")
    with session.timed(STORING), _lent(session, place.teacher, cut) as model:
        check_head(model)
        first(begin_store, place.folders, place.spec, model, name=place.teacher)
        if place.mirrors:
            first(send, session, place, ())  # whoever may not write there knows it before the pass
        if cut:
            shard(model, device())
        with (
            sending(session, place) as made,
            session.display.task("Storing what the teacher says") as report,
        ):
            fill_store(
                place.folders,
                place.spec,
                model,
                rows,
                pad_token_id=padding_id(session.models.tokenizer),
                batch_tokens=session.recipe.difficulty.batch_tokens,
                autocast_dtype=autocast_dtype("bfloat16" if _casts(place, model) else "float32"),
                process=0 if alone else session.processes.index,
                processes=1 if alone else session.processes.count,
                part=part,
                by_first=first if cut or session.processes.are_apart else None,
                progress=report,
                tell=session.display.note,
                made=made,
            )
    if not alone:
        session.processes.collect(place.folder)
        session.processes.wait()
    if session.processes.is_first:
        _note_time(session, place, paid, time.monotonic() - began)
    if place.mirrors:
        first(send, session, place)
    session.stores.pop(place.folders, None)
    return need


def _look_at(session: Session, place: StorePlace) -> None:
    """Bring what is at addresses, and refuse what is no store, or none that all hosts see."""
    if session.processes.are_apart and any(
        folder.parent != session.cache.path for folder in place.folders
    ):
        raise ConfigError(
            f"'{place.folder}' is not below '{session.cache.path}', and hosts that share no folder"
            " have what is below it alone. Leave teacher.store out, or give folders that all see."
        )
    if place.mirrors:
        bring(session, place)
    check_folders(place.folders, place.spec)
    if place.mirrors:
        send(session, place)  # what a run that was stopped had left


def _lent(session: Session, name: str, cut: bool) -> contextlib.AbstractContextManager[Any]:
    """A teacher for a while; one that is about to be cut is on the CPU."""
    if not cut:
        return session.models.borrowed(name)
    session.models.release_teacher()
    return contextlib.nullcontext(session.models.loaded_teacher(name))


def _pay(session: Session, place: StorePlace) -> float:
    """Charge what filling a store took so far, whoever did it: the run reads what is there.

    Returns:
        What filling the first folder took so far.
    """
    last, seconds = session.clock.unnoted(STORING)
    if last == place.folder.name and (place.folder / MANIFEST).is_file():
        before = _spent(place.folder)
        if seconds > before + _NOTED or not _records(place.folder):  # this run was stopped there
            _note_time(session, place, before, max(seconds - before, 0.0))
    spent = [_spent(folder) for folder in place.folders]
    for folder, seconds in zip(place.folders, spent, strict=True):
        # Of several folders two may have one name.
        what = folder.name if folder == place.folder else str(folder)
        session.clock.owe(STORING, seconds, what)
    return spent[0]


def _spent(folder: Path) -> float:
    """What filling a folder took, here and on the hosts that filled its address."""
    return sum(read_json_or(one, {}).get("seconds", 0.0) for one in _records(folder))


def _records(folder: Path) -> list[Path]:
    return [one for one in (folder / TIME, *sorted(folder.glob(SPENT))) if one.is_file()]


def _note_time(session: Session, place: StorePlace, paid: float, seconds: float) -> None:
    """Note in a store what this run spent on it: others may have spent time on it meanwhile."""
    with beginning(place.folder):
        if place.filled is not None:
            record, before = place.folder / SPENT.replace("*", secrets.token_hex(8)), 0.0
        else:
            record = place.folder / TIME
            before = read_json_or(record, {}).get("seconds", 0.0)
        atomic_write_json(record, {"seconds": round(before + seconds, 3)})
    session.clock.made(place.folder.name, STORING, round(paid + seconds, 3))


def _casts(place: StorePlace, model: Any) -> bool:
    """Whether 32-bit weights are to compute in 16 bits."""
    return place.spec.dtype == "bfloat16" and next(model.parameters()).dtype.itemsize > 2


def open_store(session: Session, place: StorePlace) -> TeacherStore:
    """A store of this run, verified the first time that it is opened.

    A shard that this run has verified before, here or in the first process (``verify_store``), is
    not verified again.
    """
    if place.folders not in session.stores:
        bring(session, place)
        with session.display.task("Verifying the teacher store"):
            store = TeacherStore(place.folders, place.spec, verified=session.verified)
        session.verified.update(store.stamps)
        session.stores[place.folders] = store
    return session.stores[place.folders]


def verify_store(session: Session, place: StorePlace) -> None:
    """Verify a store in the first process and tell the others; all processes call this together.

    They are told by size, time and number of each file: a process that sees other files, on a disk
    of its own, verifies those by itself.
    """
    session.verified.update(session.processes.by_first(_stamps, session, place))


def _stamps(session: Session, place: StorePlace) -> list[Stamp]:
    return open_store(session, place).stamps


def strongest_place(session: Session, recipe: Recipe) -> StorePlace:
    """Where the strongest teacher is stored for an arm."""
    kind = "topk" if asked_signal(session) == "topk" else "hidden"
    return store_place(session, session.models.strongest, recipe, kind)


def strongest_store(session: Session, recipe: Recipe, rows: Any) -> TeacherStore:
    """The store of the strongest teacher, filled for some rows by this process alone."""
    place = strongest_place(session, recipe)
    part = rows.select_columns(["id", "input_ids", "labels"])
    fill(session, place, [part], alone=True)
    return open_store(session, place)


def rows_to_store(session: Session, arm: str, name: str) -> list[Any]:
    """The rows at which an arm may ask a teacher: what it trains on, and the test rows."""
    found = [asked_of(name, training_rows(session, arm))]
    if compares_with(session, name):
        found.append(tested_rows(session))
    return [part.select_columns(["id", "input_ids", "labels"]) for part in found if len(part)]


def asked_of(name: str, rows: Any) -> Any:
    """The training rows about which a teacher is asked: of answers that teachers wrote, its own."""
    if "teacher" not in rows.column_names:
        return rows
    return rows.select([row for row, writer in enumerate(rows["teacher"]) if writer == name])


def compares_with(session: Session, name: str) -> bool:
    """Whether students are compared with this teacher on the test rows."""
    wanted = agreement_asked(session.recipe) and name == session.models.strongest
    return wanted and rows_of(session, own_suite(session.recipe).split) is not None


def tested_rows(session: Session) -> Any:
    """The rows of the final evaluation at which students are compared with a teacher."""
    suite = own_suite(session.recipe)
    return rows_to_compare(suite.rows_of(rows_of(session, suite.split)))


def stores_wanted(
    session: Session, signals: Mapping[str, str]
) -> list[tuple[StorePlace, list[Any]]]:
    """Every store that some arms read, with all the rows that they read there.

    Args:
        session: the run.
        signals: live, hidden or topk for each of the arms.
    """
    wanted: dict[tuple[Path, ...], tuple[StorePlace, list[Any]]] = {}
    for arm, kind in signals.items():
        for place, rows in _wanted(session, arm, kind):
            wanted.setdefault(place.folders, (place, []))[1].append(rows)
    return list(wanted.values())


def _wanted(session: Session, arm: str, kind: str) -> Iterator[tuple[StorePlace, Any]]:
    """The stores that an arm reads, and the rows that it reads there."""
    recipe = session.loaded.arms[arm]
    for name in recipe.teachers_used if kind != LIVE else ():
        place = store_place(session, name, recipe, kind)
        for rows in rows_to_store(session, arm, name):
            yield place, rows


def store_needs(session: Session, arm: str, kind: str) -> list[Need]:
    """What the stores of an arm still lack, before anything is computed."""
    found = []
    for place, rows in _wanted(session, arm, kind):
        bring(session, place)
        size = session.models.size_of(place.teacher)
        found.append(store_need(place.folders, place.spec, size.hidden_size, rows))
    return found
