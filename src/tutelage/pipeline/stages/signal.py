"""The stage that gets teachers ready to be asked: stored or live, as is decided here for a run."""

from typing import Any

import numpy as np

from tutelage.curriculum import load_plan
from tutelage.files import atomic_write_json, read_json, read_json_or
from tutelage.pipeline.context.models import device
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.context.signals import signals
from tutelage.pipeline.stages.room import check_room, lacking, room_note
from tutelage.pipeline.stages.store import (
    LIVE,
    asked_of,
    asked_signal,
    fill,
    learns_distributions,
    may_store,
    open_store,
    stores_wanted,
    tested_rows,
    verify_store,
)
from tutelage.pipeline.stages.store_error import topk_error, topk_error_text
from tutelage.pipeline.stages.store_place import store_place
from tutelage.recipe import Recipe
from tutelage.teachers import (
    LiveTeacher,
    StoredTeacher,
    TeacherLadder,
    TeacherSignal,
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
            kind = "hidden" if _pays(session, arms) and _fits(session, arms) else LIVE
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
        visits += int(np.diff(plan.offsets)[plan.takes_logits].sum())
        examples = max(examples, len(plan.ids))
    return visits >= PASSES_THAT_PAY * examples


def _fits(session: Session, arms: dict[str, Recipe]) -> bool:
    """Whether there is room for the hidden states that arms would read; says where there is not."""
    stored = {arm: "hidden" for arm, recipe in arms.items() if may_store(session, recipe)}
    found = lacking(session, stores_wanted(session, stored))
    for place, size, free in found:
        session.display.note(room_note(session, place, size, free))
    return not found


def prepare_stores(session: Session) -> dict[str, str]:
    """Fill the stores that the arms read; all processes share the work.

    Returns:
        The signal of each arm that learns distributions.
    """
    signals = session.processes.by_first(decide_signals, session)
    wanted = stores_wanted(session, signals)
    session.processes.by_first(check_room, session, wanted)
    for place, parts in wanted:
        fill(session, place, parts)
        verify_store(session, place)
        if place.spec.kind == "topk" and not session.cuts("teacher"):
            lost = session.processes.by_first(topk_error, session, place, parts)
            session.display.note(topk_error_text(lost))
    return signals


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
        return signals(session.models, recipe, processes=session.processes.count)
    session.models.release_teacher()

    def stored(name: str) -> TeacherSignal:
        place = store_place(session, name, recipe, kind)
        return StoredTeacher(open_store(session, place), asked_of(name, rows), device())

    return signals(session.models, recipe, stored)


def strongest_signal(session: Session) -> TeacherSignal:
    """The strongest teacher, for comparing students with it on the test rows."""
    models = session.models
    signals = read_json_or(session.part("signal") / "signal.json", {})
    for arm, kind in signals.items():
        recipe = session.loaded.arms[arm]
        if kind == "hidden" and models.strongest in recipe.teachers_used:
            place = store_place(session, models.strongest, recipe, kind)
            return StoredTeacher(open_store(session, place), tested_rows(session), device())
    return LiveTeacher(models.teacher, models.vocab_size)
