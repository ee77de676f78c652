"""The stage that stores the teachers' signals, and the choice between storing and running live."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tutelage.curriculum import load_plan
from tutelage.files import atomic_write_json, read_json
from tutelage.pipeline.prepare import rows_of, rows_to_compare
from tutelage.pipeline.session import Session
from tutelage.pipeline.stores import (
    LIVE,
    StorePlace,
    asked_signal,
    fill,
    learns_distributions,
    may_store,
    open_store,
    store_place,
)
from tutelage.pipeline.texts import training_rows
from tutelage.pipeline.topk_error import topk_error, topk_error_text
from tutelage.pipeline.workshop import device
from tutelage.recipe import Recipe
from tutelage.teachers import (
    LiveTeacher,
    Need,
    StoredTeacher,
    TeacherLadder,
    TeacherSignal,
    store_need,
)

PASSES_THAT_PAY = 1.5
"""With ``signal: auto`` a teacher is stored when it would be run over the data so often."""


def decide_signals(session: Session) -> dict[str, str]:
    """Live, hidden or topk for every arm that learns distributions; decided once for a run.

    Needs the plans: with ``auto`` the teacher is stored when the plans read it often enough. The
    decision is kept in the run folder, so that a resumed run goes on as it began.
    """
    arms = {a: r for a, r in session.loaded.arms.items() if learns_distributions(r)}
    inputs = {
        "plans": {arm: session.run.fingerprint(f"arms/{arm}/plan") for arm in arms},
        "asked": asked_signal(session),
    }
    if not session.run.fresh("signal", inputs):
        kind = asked_signal(session)
        if kind == "auto":
            kind = "hidden" if _pays(session, arms) else LIVE
        chosen = {arm: kind if may_store(session, arms[arm]) else LIVE for arm in arms}
        with session.run.making("signal", inputs) as folder:
            atomic_write_json(folder / "signal.json", chosen)
    return read_json(session.part("signal") / "signal.json")


def _pays(session: Session, arms: dict[str, Recipe]) -> bool:
    """Whether the plans read the teacher more often than a pass or so."""
    visits, examples = 0, 1
    for arm, recipe in arms.items():
        if not may_store(session, recipe):
            continue
        plan = load_plan(session.part(f"arms/{arm}/plan"))
        with_teacher = (plan.ce_weight < 1) & (plan.student_share < 1)
        visits += int((plan.offsets[1:] - plan.offsets[:-1])[with_teacher].sum())
        examples = max(examples, len(plan.ids))
    return visits >= PASSES_THAT_PAY * examples


def rows_to_store(session: Session, arm: str, name: str) -> list[Any]:
    """The rows at which an arm may ask a teacher: what it trains on, and the test rows."""
    found = [_asked_of(name, training_rows(session, arm))]
    if compares_with(session, name):
        found.append(tested_rows(session))
    return [part.select_columns(["id", "input_ids", "labels"]) for part in found if len(part)]


def _asked_of(name: str, rows: Any) -> Any:
    """The training rows about which a teacher is asked: of answers that teachers wrote, its own."""
    if "teacher" not in rows.column_names:
        return rows
    return rows.select([row for row, writer in enumerate(rows["teacher"]) if writer == name])


def compares_with(session: Session, name: str) -> bool:
    """Whether students are compared with this teacher on the test rows."""
    wanted = session.recipe.evaluation.agreement and name == session.shop.strongest
    return wanted and rows_of(session, "test") is not None


def tested_rows(session: Session) -> Any:
    """The rows of the final evaluation at which students are compared with a teacher."""
    rows = rows_of(session, "test")
    limit = session.recipe.evaluation.limit
    rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
    return rows_to_compare(rows)


def prepare_stores(session: Session) -> dict[str, str]:
    """Fill the stores that the arms read; all processes share the work.

    Returns:
        The signal of each arm that learns distributions.
    """
    with session.processes.first_goes_first():
        signals = decide_signals(session)
    for place, parts in stores_wanted(session, signals):
        fill(session, place, parts)
        if place.spec.kind == "topk":
            with session.processes.first_goes_first():
                session.display.note(topk_error_text(topk_error(session, place, parts)))
    return signals


def stores_wanted(
    session: Session, signals: Mapping[str, str]
) -> list[tuple[StorePlace, list[Any]]]:
    """Every store that some arms read, with all the rows that they read there.

    Args:
        session: the run.
        signals: live, hidden or topk for each of the arms.
    """
    wanted: dict[Path, tuple[StorePlace, list[Any]]] = {}
    for arm, kind in signals.items():
        for place, rows in _wanted(session, arm, kind):
            wanted.setdefault(place.folder, (place, []))[1].append(rows)
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
        size = session.shop.size_of(place.teacher)
        found.append(store_need(place.folder, place.spec, size.hidden_size, rows))
    return found


def teachers_of(session: Session, arm: str, kind: str, rows: Any) -> TeacherLadder:
    """The teachers of an arm as signals.

    Args:
        session: the run.
        arm: its name.
        kind: live, hidden or topk.
        rows: what it trains on.
    """
    recipe = session.loaded.arms[arm]
    if kind == LIVE:
        return session.shop.signals(recipe)
    session.shop.release_teacher()

    def stored(name: str) -> TeacherSignal:
        place = store_place(session, name, recipe, kind)
        return StoredTeacher(open_store(session, place), _asked_of(name, rows), device())

    return session.shop.signals(recipe, stored)


def strongest_signal(session: Session) -> TeacherSignal:
    """The strongest teacher, for comparing students with it on the test rows."""
    shop = session.shop
    signals = read_json(session.part("signal") / "signal.json") if _decided(session) else {}
    for arm, kind in signals.items():
        recipe = session.loaded.arms[arm]
        if kind == "hidden" and shop.strongest in recipe.teachers_used:
            place = store_place(session, shop.strongest, recipe, kind)
            return StoredTeacher(open_store(session, place), tested_rows(session), device())
    return LiveTeacher(shop.teacher, shop.vocab_size)


def _decided(session: Session) -> bool:
    return (session.part("signal") / "signal.json").is_file()
