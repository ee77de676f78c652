"""Plans of older runs are read as what they were."""

import json

import numpy as np
import pyarrow.parquet as pq

from tutelage.curriculum import (
    CurriculumOptions,
    PlanSettings,
    compile_plan,
    describe_plan,
    load_plan,
    plan_fingerprint,
    save_plan,
)
from tutelage.types import DifficultyProfile


def test_a_plan_from_before_there_were_second_divergences_is_read(tmp_path):
    profile = DifficultyProfile(tuple("abcdefgh"), np.arange(8.0), "student_loss")
    plan = compile_plan(profile, PlanSettings(CurriculumOptions(stages=2), batch_size=2))
    save_plan(tmp_path, plan, describe_plan(plan, profile, "old"))
    steps = pq.read_table(tmp_path / "steps.parquet")
    pq.write_table(steps.drop_columns(["second_share"]), tmp_path / "steps.parquet")
    path = tmp_path / "plan.json"
    description = json.loads(path.read_text())
    for stage in description["stages"]:
        del stage["second_share"]
    path.write_text(json.dumps(description))
    old = load_plan(tmp_path)
    assert not old.second_share.any() and plan_fingerprint(old) == plan_fingerprint(plan)
