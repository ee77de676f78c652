"""A plan as files: ``plan.json`` to read, ``steps.parquet`` to run and resume from."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tutelage.curriculum.exposure import exposure, plan_warnings
from tutelage.files import atomic_write_json, disk_errors, fingerprint, read_json
from tutelage.types import DifficultyProfile, Plan, Stage

_VALUES = ("student_share", "distill_temperature", "ce_weight", "lr_factor")
_SCALARS = (
    "batch_size",
    "curriculum",
    "seed",
    "baseline_steps",
    "baseline_epochs",
    "baseline_lr_mean",
)


def plan_fingerprint(plan: Plan) -> str:
    """64 digits that are the same for two plans exactly when they train the same way."""
    content: dict[str, Any] = {name: getattr(plan, name).tolist() for name in _VALUES}
    content["ids"] = list(plan.ids)
    for name in ("visits", "offsets", "step_stage", "visit_teacher", "on_policy", "restarts"):
        content[name] = getattr(plan, name).tolist()
    content["teachers"] = list(plan.teachers)
    return fingerprint(content)


def describe_plan(plan: Plan, profile: DifficultyProfile, recipe: str) -> dict[str, Any]:
    """What ``tutelage plan --json`` prints: stages, totals, exposure and warnings."""
    rows = exposure(plan, profile)
    return {
        "recipe": recipe,
        "fingerprint": plan_fingerprint(plan),
        "num_examples": plan.num_examples,
        "total_steps": plan.total_steps,
        "baseline_steps": plan.baseline_steps,
        "stages": [stage.as_dict() for stage in plan.stages],
        "exposure": [row.as_dict() for row in rows],
        "warnings": plan_warnings(plan, rows),
        "teachers": list(plan.teachers),
        **{name: getattr(plan, name) for name in _SCALARS},
    }


def save_plan(folder: str | Path, plan: Plan, description: dict[str, Any]) -> None:
    """Write ``steps.parquet``, ``ids.parquet`` and then ``plan.json`` into an existing folder."""
    folder = Path(folder)
    steps = {
        "step": np.arange(1, plan.total_steps + 1),
        "stage": plan.step_stage,
        **{name: getattr(plan, name) for name in _VALUES},
        "on_policy": plan.on_policy,
        "restart": np.isin(np.arange(plan.total_steps), plan.restarts),
        "positions": _by_step(plan, plan.visits),
        "teachers": _by_step(plan, plan.visit_teacher),
    }
    with disk_errors(folder):
        pq.write_table(pa.table({"id": list(plan.ids)}), folder / "ids.parquet")
        pq.write_table(pa.table(steps), folder / "steps.parquet")
    atomic_write_json(folder / "plan.json", description)


def _by_step(plan: Plan, values: np.ndarray) -> list[list[int]]:
    return [part.tolist() for part in np.split(values, plan.offsets[1:-1])]


def load_plan(folder: str | Path) -> Plan:
    """The plan that ``save_plan`` wrote."""
    folder = Path(folder)
    description = read_json(folder / "plan.json")
    steps = pq.read_table(folder / "steps.parquet")
    positions = steps["positions"].combine_chunks()
    teachers = steps["teachers"].combine_chunks()
    return Plan(
        ids=tuple(pq.read_table(folder / "ids.parquet")["id"].to_pylist()),
        visits=positions.flatten().to_numpy().astype(np.int64),
        offsets=positions.offsets.to_numpy().astype(np.int64),
        step_stage=steps["stage"].to_numpy().astype(np.int64),
        on_policy=steps["on_policy"].to_numpy().astype(bool),
        restarts=np.flatnonzero(steps["restart"].to_numpy()).astype(np.int64),
        teachers=tuple(description["teachers"]),
        visit_teacher=teachers.flatten().to_numpy().astype(np.int64),
        stages=tuple(Stage(**stage) for stage in description["stages"]),
        **{name: steps[name].to_numpy().astype(np.float64) for name in _VALUES},
        **{name: description[name] for name in _SCALARS},
    )
