"""Rows of the data set are found by id, and by the teacher who wrote their answer."""

from dataclasses import replace

import numpy as np
import pytest

from tutelage.curriculum import CurriculumOptions, PlanSettings, compile_plan
from tutelage.errors import DataError
from tutelage.training.batches import join_by_id
from tutelage.types import DifficultyProfile

IDS = [f"id{i}" for i in range(20)]


def plan_of(**more):
    return compile_plan(
        DifficultyProfile(IDS, np.linspace(1, 2, 20)),
        PlanSettings(
            CurriculumOptions("bands", 2),
            batch_size=4,
            teachers=("weak", "strong"),
            teacher_schedule="ladder",
            **more,
        ),
    )


def test_rows_of_shared_answers():
    ids = [*IDS[::-1], "nobody"]
    rows = join_by_id(plan_of(), ids)
    assert rows.tolist() == [list(range(19, -1, -1))] * 2


def test_rows_by_writer():
    ids = [*IDS[:10], *IDS, "nobody"]
    writers = ["weak"] * 10 + ["strong"] * 20 + ["weak"]
    rows = join_by_id(plan_of(supervision="text"), ids, writers)
    assert rows[0].tolist() == [*range(10), *[-1] * 10]
    assert rows[1].tolist() == list(range(10, 30))
    others = ["somebody"] * 31
    with pytest.raises(DataError, match="names 20 examples"):
        join_by_id(plan_of(supervision="text"), ids, others)


def test_the_last_of_several_rows_counts():
    rows = join_by_id(plan_of(), [*IDS, "id3"])
    assert rows[0, 3] == 20 and rows[1, 4] == 4


def test_examples_that_are_missing_are_named_if_they_are_visited():
    with pytest.raises(DataError, match=r"names 2 examples .* example 'id5'"):
        join_by_id(plan_of(), [i for i in IDS if i not in ("id5", "id17")])
    plan = plan_of()
    hidden = replace(plan, visits=np.where(plan.visits == 5, 6, plan.visits))
    assert join_by_id(hidden, [i for i in IDS if i != "id5"])[:, 5].tolist() == [-1, -1]
    with pytest.raises(DataError, match="names 20 examples"):
        join_by_id(plan, [])
