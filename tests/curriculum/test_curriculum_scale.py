"""What makes plans of many examples cheap changes nothing: each part against a plain one."""

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tutelage.curriculum import (
    CURRICULA,
    CurriculumOptions,
    PlanSettings,
    compile_plan,
    describe_plan,
    exposure,
    files,
    load_plan,
    plan_fingerprint,
    save_plan,
)
from tutelage.curriculum import fingerprint as fingerprint_module
from tutelage.curriculum.fingerprint import parts_of
from tutelage.curriculum.sampling import cut_into_steps, pass_lengths
from tutelage.proofs import fingerprint
from tutelage.types import DifficultyProfile

NAMES = ("plain", 'a "quoted" one', "back\\slash", "line\nfeed", "é", "\x7f", "\U0001f600", "")


def profile_of(size, seed=0, names=()):
    scores = np.random.default_rng(seed).integers(1, 9, size) / 4
    ids = [*names, *(f"id{i}" for i in range(size - len(names)))]
    return DifficultyProfile(ids, scores)


def plan_of(profile, kind="calibrated", **more):
    return compile_plan(
        profile,
        PlanSettings(
            CurriculumOptions(kind, stages=4, passes=1.7),
            batch_size=5,
            student_share={"kind": "shifted", "per": "step"},
            ce_weight=0.3,
            on_policy=0.2,
            **more,
        ),
    )


def plain_content(plan):
    values = {name: getattr(plan, name) for name in parts_of(plan)}
    return {k: v.tolist() if isinstance(v, np.ndarray) else list(v) for k, v in values.items()}


@pytest.mark.parametrize("kind", sorted(CURRICULA))
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_the_fingerprint_is_that_of_the_whole_content(kind, piece, monkeypatch):
    monkeypatch.setattr(fingerprint_module, "_PIECE", piece)
    for names in (NAMES, ()):
        plan = plan_of(profile_of(60, names=names), kind)
        assert plan_fingerprint(plan) == fingerprint(plain_content(plan))


def shuffled_by_hand(plan, profile, ranked):
    """The visits of a plan with carried remainders, from its stages alone."""
    visits = []
    for stage in plan.stages:
        subset = ranked[: stage.num_examples]
        left, number = round(stage.passes * len(subset)), 0
        while left > 0:
            rng = np.random.default_rng([plan.seed, stage.stage, number])
            visits.append(rng.permutation(subset.astype(np.int64))[:left])
            left, number = left - len(subset), number + 1
    return np.concatenate(visits)


@pytest.mark.parametrize("kind", ["calibrated", "baby_steps", "hard_to_easy"])
def test_visits_are_shuffled_passes_over_the_subsets(kind):
    profile = profile_of(333)
    order = np.lexsort((np.asarray(list(profile.ids)), profile.scores))
    ranked = order[::-1] if kind == "hard_to_easy" else order
    plan = plan_of(profile, kind, seed=11)
    assert (plan.visits == shuffled_by_hand(plan, profile, ranked)).all()
    means = [profile.scores[ranked[: s.num_examples]].mean() for s in plan.stages]
    assert [s.mean_difficulty for s in plan.stages] == means


def test_exposure_of_spans_is_that_of_the_whole(monkeypatch):
    profile = profile_of(200)
    plan = plan_of(profile)
    whole = exposure(plan, profile)
    # `tutelage.curriculum.exposure` is the function; the module has the same name.
    monkeypatch.setattr(sys.modules["tutelage.curriculum.exposure"], "SPAN", 5)
    assert exposure(plan, profile) == whole
    tenth = np.empty(200, dtype=int)
    for number, positions in enumerate(np.array_split(profile.order, 10)):
        tenth[positions] = number
    step = np.repeat(np.arange(plan.total_steps), np.diff(plan.offsets))
    there = tenth[plan.visits]
    for row in whole:
        here = step[there == row.tenth - 1]
        assert row.visits == len(here)
        assert row.first_step == (here[0] + 1 if len(here) else None)
        assert row.lr_visits == pytest.approx(plan.lr_factor[here].sum(), rel=1e-12)


@pytest.mark.parametrize("rows", [5, 1 << 22])
def test_a_plan_is_written_in_parts_and_read_whole(tmp_path, rows, monkeypatch):
    monkeypatch.setattr(files, "VISITS_AT_ONCE", rows)
    profile = profile_of(70, names=NAMES)
    plan = plan_of(profile, teachers=("a", "b"), teacher_schedule="random_mix")
    save_plan(tmp_path, plan, describe_plan(plan, profile, "mine"))
    again = load_plan(tmp_path)
    assert plain_content(again) == plain_content(plan)
    assert again.visits.dtype == plan.visits.dtype == np.int32
    assert again.visit_teacher.dtype == plan.visit_teacher.dtype == np.uint8


def test_a_plan_of_an_earlier_version_can_be_read(tmp_path):
    profile = profile_of(40)
    plan = plan_of(profile)
    save_plan(tmp_path, plan, describe_plan(plan, profile, "mine"))
    steps = pq.read_table(tmp_path / "steps.parquet").to_pydict()
    pq.write_table(pa.table(steps), tmp_path / "steps.parquet")  # lists of int64, one group
    assert plan_fingerprint(load_plan(tmp_path)) == plan_fingerprint(plan)
    written = json.loads((tmp_path / "plan.json").read_text())["fingerprint"]
    assert written == plan_fingerprint(plan)


@pytest.mark.parametrize(
    ("remainder", "used", "sizes", "stages"),
    [
        ("carry", [5, 3, 9], [4, 4, 4, 4, 1], [1, 2, 3, 3, 3]),
        ("trim", [5, 3, 8], [4, 4, 4, 4], [1, 2, 3, 3]),
        ("partial", [5, 3, 9], [4, 1, 3, 4, 4, 1], [1, 1, 2, 3, 3, 3]),
        ("drop", [4, 3, 8], [4, 3, 4, 4], [1, 2, 3, 3]),
    ],
)
def test_cuts_by_hand(remainder, used, sizes, stages):
    cut = cut_into_steps([5, 3, 9], 4, remainder)
    assert cut.used == used
    assert np.diff(cut.offsets).tolist() == sizes and cut.offsets[0] == 0
    assert cut.step_stage.tolist() == stages


def test_passes_by_hand():
    assert pass_lengths(10, 25) == [10, 10, 5]
    assert pass_lengths(10, 20) == [10, 10]
    assert pass_lengths(10, 25, whole=4) == [8, 8, 4]
    assert pass_lengths(3, 7, whole=4) == [3, 3, 1]
