"""A plan as files: ``plan.json`` to read, ``steps.parquet`` to run and resume from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tutelage.curriculum.doubts import profile_doubts
from tutelage.curriculum.exposure import exposure, plan_warnings
from tutelage.curriculum.fingerprint import plan_fingerprint
from tutelage.curriculum.options import AS_IF_NOT_THERE, LOSS_VALUES
from tutelage.errors import RunFolderError, first_line
from tutelage.files import atomic_write_json, disk_errors, read_json
from tutelage.ids import Ids, index_type
from tutelage.proofs import MANIFEST, changed_since
from tutelage.types import DifficultyProfile, Plan, Stage

VISITS_AT_ONCE = 1 << 22
SCHEDULED = (*LOSS_VALUES, "lr_factor")
"""Columns of ``steps.parquet``: the values that a plan schedules for each step."""
_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    pa.ArrowException,
)
_FILES = ("plan.json", "steps.parquet", "ids.parquet")
_SCALARS = (
    "batch_size",
    "curriculum",
    "seed",
    "baseline_steps",
    "baseline_epochs",
    "baseline_lr_mean",
)


def describe_plan(
    plan: Plan,
    profile: DifficultyProfile,
    recipe: str,
    *,
    losses: Mapping[str, float] | None = None,
    vocab_size: int | None = None,
) -> dict[str, Any]:
    """What ``tutelage plan --json`` prints: stages, totals, exposure and warnings.

    Args:
        plan: the plan.
        profile: difficulty of its examples.
        recipe: what the plan is called.
        losses: see ``profile_doubts``.
        vocab_size: see ``profile_doubts``.
    """
    rows = exposure(plan, profile)
    return {
        "recipe": recipe,
        "fingerprint": plan_fingerprint(plan),
        "num_examples": plan.num_examples,
        "total_steps": plan.total_steps,
        "baseline_steps": plan.baseline_steps,
        "stages": [stage.as_dict() for stage in plan.stages],
        "exposure": [row.as_dict() for row in rows],
        "warnings": [
            *profile_doubts(plan, profile, losses, vocab_size),
            *plan_warnings(plan, rows),
        ],
        "teachers": list(plan.teachers),
        **{name: getattr(plan, name) for name in _SCALARS},
    }


def save_plan(folder: str | Path, plan: Plan, description: dict[str, Any]) -> None:
    """Write ``steps.parquet``, ``ids.parquet`` and then ``plan.json`` into an existing folder."""
    folder = Path(folder)
    ids = pa.table({"id": plan.ids.text})
    rows = max(VISITS_AT_ONCE // plan.batch_size, 1)
    with disk_errors(folder):
        # Ids differ and visits are in no order: a dictionary of them would be written in vain.
        pq.write_table(ids, folder / "ids.parquet", use_dictionary=False)
        schema = _steps_table(plan, 0, 1).schema
        with pq.ParquetWriter(folder / "steps.parquet", schema, use_dictionary=False) as writer:
            for first in range(0, plan.total_steps, rows):
                last = min(first + rows, plan.total_steps)
                writer.write_table(_steps_table(plan, first, last))
    atomic_write_json(folder / "plan.json", description)


def _steps_table(plan: Plan, first: int, last: int) -> pa.Table:
    """One row for each step from ``first`` up to ``last``, from 0."""
    steps = slice(first, last)
    return pa.table(
        {
            "step": np.arange(first + 1, last + 1),
            "stage": plan.step_stage[steps],
            **{name: getattr(plan, name)[steps] for name in SCHEDULED},
            "on_policy": plan.on_policy[steps],
            "restart": np.isin(np.arange(first, last), plan.restarts),
            "positions": _by_step(plan, plan.visits, first, last),
            "teachers": _by_step(plan, plan.visit_teacher, first, last),
            **(
                {"weights": _by_step(plan, plan.visit_weight, first, last)}
                if len(plan.visit_weight)
                else {}
            ),
        }
    )


def _by_step(plan: Plan, values: np.ndarray, first: int, last: int) -> pa.LargeListArray:
    """The values of the visits of some steps, as a list for each step."""
    offsets = plan.offsets[first : last + 1]
    inside = values[offsets[0] : offsets[-1]]
    return pa.LargeListArray.from_arrays(pa.array(offsets - offsets[0]), pa.array(inside))


def plan_folder(arm: str | Path) -> Path:
    """Where the plan is that an arm carries out: the last one made, where it is made anew.

    Args:
        arm: the folder of an arm; ``plan`` is what was planned before the run, and below
            ``replanned`` are those that were made while training.
    """
    arm = Path(arm)
    anew = {
        int(name): path
        for path in arm.glob("replanned/after_stage_*")
        if (name := path.name.rpartition("_")[2]).isdigit() and (path / "plan.json").is_file()
    }
    return anew[max(anew)] if anew else arm / "plan"


def load_plan(folder: str | Path) -> Plan:
    """The plan that ``save_plan`` wrote.

    Raises:
        RunFolderError: a file of it is missing, cannot be read, or is not as it was written.
    """
    folder = Path(folder)
    for name in _FILES:
        changed = changed_since(folder / name, folder / MANIFEST)
        if changed is not None:
            raise _not_whole(folder, f"'{changed.name}' was changed or damaged")
    try:
        return _load(folder)
    except _UNREADABLE as error:
        raise _not_whole(folder, first_line(error)) from error


def _not_whole(folder: Path, why: str) -> RunFolderError:
    return RunFolderError(
        f"The plan in '{folder}' cannot be read ({why}). Delete this folder and give the same"
        " `tutelage run` command again; it is made anew."
    )


def _load(folder: Path) -> Plan:
    description = read_json(folder / "plan.json")
    ids = Ids(pq.read_table(folder / "ids.parquet")["id"])
    with pq.ParquetFile(folder / "steps.parquet") as file:
        steps = file.read(["stage", *_written(file), "on_policy", "restart"])
        visits, offsets = _read_lists(file, "positions", index_type(len(ids)))
        names = description["teachers"]
        visit_teacher, _ = _read_lists(file, "teachers", np.min_scalar_type(len(names)))
        visit_weight = np.empty(0)
        if "weights" in file.schema_arrow.names:
            visit_weight, _ = _read_lists(file, "weights", np.float64)
    return Plan(
        ids=ids,
        visits=visits,
        offsets=offsets,
        step_stage=steps["stage"].to_numpy().astype(np.int64),
        on_policy=steps["on_policy"].to_numpy().astype(bool),
        restarts=np.flatnonzero(steps["restart"].to_numpy()).astype(np.int64),
        teachers=tuple(names),
        visit_teacher=visit_teacher,
        visit_weight=visit_weight,
        stages=tuple(Stage(**{**AS_IF_NOT_THERE, **stage}) for stage in description["stages"]),
        **_scheduled(steps),
        **{name: description[name] for name in _SCALARS},
    )


def _scheduled(steps: pa.Table) -> dict[str, NDArray[np.float64]]:
    """What a plan schedules, step by step."""
    missing = {name: np.full(len(steps), value) for name, value in AS_IF_NOT_THERE.items()}
    there = [name for name in SCHEDULED if name in steps.column_names]
    return missing | {name: steps[name].to_numpy().astype(np.float64) for name in there}


def _written(file: pq.ParquetFile) -> list[str]:
    """What is scheduled, without what was not there yet when the plan was written."""
    there = set(file.schema_arrow.names)
    return [name for name in SCHEDULED if name in there or name not in AS_IF_NOT_THERE]


def _read_lists(
    file: pq.ParquetFile, column: str, dtype: Any
) -> tuple[np.ndarray, NDArray[np.int64]]:
    """The values of a column of lists, one after another, and where each list begins and ends."""
    values, lengths = [np.empty(0, dtype)], [np.zeros(1, dtype=np.int64)]
    for group in range(file.num_row_groups):
        for chunk in file.read_row_group(group, [column])[column].chunks:
            values.append(chunk.flatten().to_numpy().astype(dtype))
            lengths.append(chunk.value_lengths().to_numpy().astype(np.int64))
    return np.concatenate(values), np.cumsum(np.concatenate(lengths))
