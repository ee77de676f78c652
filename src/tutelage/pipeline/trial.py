"""One run of many: carried out without pictures, stopped and gone on with where it is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.files import read_jsonl
from tutelage.pipeline.run import carry_out_arms, prepared
from tutelage.pipeline.stages.cost import cost_of
from tutelage.pipeline.stages.ledger import ledger_of
from tutelage.pipeline.stages.report import write_run_file
from tutelage.types import Ledger


@dataclass(frozen=True)
class Tried:
    """What a run of one arm has come to.

    Attributes:
        folder: the run folder.
        arm: its arm.
        steps: updates that are made.
        total_steps: updates of its plan.
        ledger: what the whole of it costs.
        validations: of the arm so far, one row for each time it was validated.
    """

    folder: Path
    arm: str
    steps: int
    total_steps: int
    ledger: Ledger
    validations: list[dict[str, Any]]


def try_out(
    recipe: Mapping[str, Any],
    run_dir: Path,
    *,
    until: int | None = None,
    quiet: bool = True,
    watch: Callable[[Any], None] | None = None,
) -> Tried:
    """Carry out a recipe of one arm, to its end with evaluation or up to a step without.

    What goes on later goes on from the checkpoint of that step, bit for bit as if it had not been
    stopped.

    Args:
        recipe: the recipe, without controls.
        run_dir: the run folder.
        until: stop after this update; None for the end.
        quiet: show no progress.
        watch: called with the session before any work.

    Raises:
        TutelageError: anything that the user can mend; the message says how.
    """
    with prepared(recipe, run_dir=run_dir, quiet=quiet, draws=False) as session:
        if watch is not None:
            watch(session)
        arm = session.main_arm
        carry_out_arms(session, until)
        ledger = ledger_of(session, arm)
        if until is None:
            write_run_file(session)
        rows = session.part(f"arms/{arm}") / "validation.jsonl"
        return Tried(
            folder=session.run.path,
            arm=arm,
            steps=min(until or ledger.updates, ledger.updates),
            total_steps=ledger.updates,
            ledger=ledger,
            validations=read_jsonl(rows) if rows.is_file() else [],
        )


def price(recipe: Mapping[str, Any], run_dir: Path, *, quiet: bool = True) -> Ledger:
    """What a recipe of one arm will cost; difficulty is measured for it, nothing is trained.

    Args:
        recipe: the recipe, without controls.
        run_dir: a run folder for this alone: it is that of whichever recipe came last.
        quiet: show no progress.
    """
    with prepared(recipe, run_dir=run_dir, quiet=quiet, draws=False, replace=True) as session:
        return ledger_of(session, session.main_arm)


def estimate(
    recipe: Mapping[str, Any], run_dir: Path, *, quiet: bool = True
) -> tuple[Ledger | None, float | None]:
    """What a recipe of one arm will cost and its seconds of training, before texts are written.

    Args:
        recipe: the recipe, without controls.
        run_dir: as for :func:`price`.
        quiet: show no progress.

    Returns:
        None for what is not known: the cost of an arm that learns from texts that are not written
        yet, and seconds where no speed was measured.
    """
    with prepared(
        recipe, run_dir=run_dir, quiet=quiet, texts=False, draws=False, replace=True
    ) as session:
        if session.recipe.uses_text:
            return None, None
        return ledger_of(session, session.main_arm), cost_of(session, session.main_arm).seconds
