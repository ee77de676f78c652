"""Properties that every plan keeps, and CPD's published arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.curriculum import (
    CURRICULA,
    CurriculumOptions,
    LearningRate,
    PlanSettings,
    compile_plan,
    describe_plan,
    exposure,
    load_plan,
    plan_fingerprint,
    plan_warnings,
    save_plan,
)
from tutelage.curriculum.options import LIMITS
from tutelage.errors import ConfigError
from tutelage.recipe import load_recipe
from tutelage.types import DifficultyProfile

PAPER_N = 11_435  # the size that CPD's printed iteration counts imply


def profile_of(scores):
    return DifficultyProfile(tuple(f"id{i:05d}" for i in range(len(scores))), np.asarray(scores))


def easiest(profile, size):
    return {profile.ids[i] for i in profile.order[:size]}


difficulties = st.lists(
    st.one_of(
        st.floats(1e-3, 20, allow_nan=False),
        st.sampled_from([0.5, 1.0]),  # ties
    ),
    min_size=1,
    max_size=60,
)
GROWING = sorted(set(CURRICULA) - {"bands", "shrinking"})
curricula = st.sampled_from(GROWING)


@settings(deadline=None, max_examples=150)
@given(
    scores=difficulties,
    kind=curricula,
    stages=st.integers(1, 7),
    batch_size=st.integers(1, 9),
    remainder=st.sampled_from(["carry", "partial", "drop"]),
    passes=st.sampled_from([None, 0.5, 1.0, 2.5]),
)
def test_every_plan(scores, kind, stages, batch_size, remainder, passes):
    profile = profile_of(scores)
    options = CurriculumOptions(kind, stages, passes=passes, remainder=remainder)
    plan = compile_plan(profile, PlanSettings(options, batch_size=batch_size, seed=3))
    sizes = [stage.num_examples for stage in plan.stages]
    assert sizes == sorted(sizes) and sizes[-1] == len(profile)
    assert sum(stage.steps for stage in plan.stages) == plan.total_steps
    assert all(stage.steps >= 1 for stage in plan.stages)
    assert (np.diff(plan.step_stage) >= 0).all()
    per_step = np.diff(plan.offsets)
    assert per_step.min() >= 1 and per_step.max() <= batch_size
    assert plan.offsets[-1] == len(plan.visits)
    if remainder == "carry" and min(s.steps * batch_size for s in plan.stages) > batch_size:
        assert (per_step[:-1] == batch_size).all()
    # A step uses no example from beyond its stage's subset.
    order = plan.curriculum
    hardest_first = CURRICULA[order].order == "hard_first"
    ranked = profile.order[::-1] if hardest_first else profile.order
    for step in range(plan.total_steps):
        subset = set(ranked[: plan.stage_of(step).num_examples].tolist())
        assert set(plan.positions(step).tolist()) <= subset


@settings(deadline=None, max_examples=100)
@given(scores=difficulties, stages=st.integers(1, 9), batch_size=st.integers(1, 9))
def test_calibrated_meets_its_target_with_the_fewest_examples(scores, stages, batch_size):
    profile = profile_of(scores)
    plan = compile_plan(
        profile,
        PlanSettings(CurriculumOptions("calibrated", stages), batch_size=batch_size, seed=0),
    )
    means = profile.running_mean
    least = min(batch_size, len(profile))
    for stage in plan.stages:
        k = stage.num_examples
        assert k >= least
        assert means[k - 1] >= stage.target_difficulty * (1 - 1e-12)
        if k > least and k < len(profile):
            assert means[k - 2] < stage.target_difficulty


@settings(deadline=None, max_examples=60)
@given(scores=difficulties, kind=curricula, stages=st.integers(1, 5), seed=st.integers(0, 3))
def test_plans_do_not_depend_on_the_order_of_the_data(scores, kind, stages, seed):
    profile = profile_of(scores)
    shuffled = np.random.default_rng(seed).permutation(len(profile))
    other = DifficultyProfile(tuple(profile.ids[i] for i in shuffled), profile.scores[shuffled])
    options = CurriculumOptions(kind, stages)
    plans = [
        compile_plan(p, PlanSettings(options, batch_size=4, seed=seed)) for p in (profile, other)
    ]
    visits = [[plan.ids[i] for i in plan.visits] for plan in plans]
    assert visits[0] == visits[1]


@settings(deadline=None, max_examples=60)
@given(scores=difficulties, kind=curricula, stages=st.integers(1, 5), extra=st.integers(0, 40))
def test_total_steps_is_exact(scores, kind, stages, extra):
    options = CurriculumOptions(kind, stages, total_steps=stages + extra)
    plan = compile_plan(profile_of(scores), PlanSettings(options, batch_size=4))
    assert plan.total_steps == plan.baseline_steps == stages + extra
    assert (np.diff(plan.offsets) == 4).all()
    assert all(stage.steps >= 1 for stage in plan.stages)


@pytest.mark.parametrize("kind", GROWING)
def test_constant_difficulty_one_example_one_stage(kind):
    for scores, stages in (([1.0] * 50, 5), ([2.0], 4), ([3.0, 1.0], 1)):
        plan = compile_plan(
            profile_of(scores), PlanSettings(CurriculumOptions(kind, stages), batch_size=4)
        )
        assert plan.stages[-1].num_examples == len(scores)
        assert set(plan.visits.tolist()) == set(range(len(scores)))


def test_ties_are_broken_by_id():
    profile = DifficultyProfile(("b", "a", "c"), np.asarray([1.0, 1.0, 0.5]))
    assert [profile.ids[i] for i in profile.order] == ["c", "a", "b"]


def test_same_seed_same_plan_other_seed_other_plan():
    profile = profile_of(np.random.default_rng(0).gamma(4, 0.5, 300))
    plans = [compile_plan(profile, PlanSettings(batch_size=8, seed=seed)) for seed in (1, 1, 2)]
    prints = [plan_fingerprint(plan) for plan in plans]
    assert prints[0] == prints[1] != prints[2]


def test_within_a_stage_visits_are_even():
    profile = profile_of(np.random.default_rng(0).gamma(4, 0.5, 97))
    options = CurriculumOptions("random", stages=1, passes=3.4)
    plan = compile_plan(profile, PlanSettings(options, batch_size=10))
    counts = np.bincount(plan.visits, minlength=97)
    assert set(counts.tolist()) == {3, 4}


def test_published_iterations_of_the_plain_run():
    profile = profile_of(np.random.default_rng(0).gamma(4, 0.6, PAPER_N))
    plain = compile_plan(
        profile, PlanSettings(CurriculumOptions("random", stages=20), batch_size=8)
    )
    assert plain.total_steps == plain.baseline_steps == 28_588


def test_published_iterations_of_linear_growth():
    profile = profile_of(np.random.default_rng(0).gamma(4, 0.6, PAPER_N))
    growth = compile_plan(
        profile, PlanSettings(CurriculumOptions("linear_growth", stages=20), batch_size=8)
    )
    assert growth.total_steps == 15_008
    assert growth.baseline_steps == 28_588


def test_iteration_ratio_reaches_the_published_share():
    profile = profile_of(np.random.default_rng(0).gamma(4, 0.6, PAPER_N))
    options = CurriculumOptions("calibrated", stages=20, iteration_ratio=23_517 / 28_587.5)
    plan = compile_plan(profile, PlanSettings(options, batch_size=8))
    assert plan.total_steps == 23_517


def test_calibrated_by_hand():
    # Means of prefixes are 1, 1.5, 2, 2.5; targets for 5 stages are 0.5, 1, 1.5, 2, 2.5.
    plan = compile_plan(
        profile_of([4.0, 1.0, 3.0, 2.0]),
        PlanSettings(CurriculumOptions("calibrated", stages=5, passes=1), batch_size=1),
    )
    assert [stage.num_examples for stage in plan.stages] == [1, 1, 2, 3, 4]
    assert [stage.mean_difficulty for stage in plan.stages] == [1, 1, 1.5, 2, 2.5]


def test_reversed_order_keeps_the_sizes():
    profile = profile_of(np.random.default_rng(1).gamma(4, 0.5, 100))
    sizes = {}
    for order in ("easy_first", "hard_first", "random"):
        options = CurriculumOptions("calibrated", 4, order=order)
        plan = compile_plan(profile, PlanSettings(options, batch_size=4))
        sizes[order] = [stage.num_examples for stage in plan.stages]
        if order == "hard_first":
            first = {plan.ids[i] for s in range(2) for i in plan.positions(s)}
            hardest = {profile.ids[i] for i in profile.order[::-1][: sizes[order][0]]}
            assert first <= hardest
    assert sizes["easy_first"] == sizes["hard_first"] == sizes["random"]


def test_scheduled_values_follow_the_stages():
    profile = profile_of(np.random.default_rng(1).gamma(4, 0.5, 64))
    plan = compile_plan(
        profile,
        PlanSettings(
            CurriculumOptions("calibrated", 4),
            batch_size=4,
            student_share={"kind": "paper"},
            distill_temperature={"kind": "linear", "start": 1.0, "end": 2.0},
            ce_weight=0.3,
            learning_rate=LearningRate("constant"),
        ),
    )
    assert [s.student_share for s in plan.stages] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert [s.distill_temperature for s in plan.stages] == pytest.approx([1, 4 / 3, 5 / 3, 2])
    assert [s.teacher for s in plan.stages] == ["teacher", "teacher", "teacher", ""]
    assert (plan.lr_factor == 1).all() and (plan.ce_weight == 0.3).all()


def test_files_give_the_plan_back(tmp_path):
    profile = profile_of(np.random.default_rng(1).gamma(4, 0.5, 64))
    plan = compile_plan(
        profile, PlanSettings(batch_size=5, student_share={"kind": "shifted"}, seed=9)
    )
    save_plan(tmp_path, plan, describe_plan(plan, profile, "mine"))
    again = load_plan(tmp_path)
    assert plan_fingerprint(again) == plan_fingerprint(plan)
    assert again.stages == plan.stages and again.ids == plan.ids


def test_exposure_sums_to_the_visits_and_shows_the_starved():
    profile = profile_of(np.random.default_rng(1).gamma(4, 0.5, 1000))
    plan = compile_plan(
        profile,
        PlanSettings(
            CurriculumOptions("calibrated", 5),
            batch_size=8,
            student_share={"kind": "paper"},
            ce_weight=0.3,
        ),
    )
    rows = exposure(plan, profile)
    assert sum(row.visits for row in rows) == len(plan.visits)
    assert sum(row.num_examples for row in rows) == 1000
    assert rows[0].lr_visits > rows[9].lr_visits
    assert rows[9].teacher_visits == 0
    assert rows[0].plain_visits == 500
    words = " ".join(plan_warnings(plan, rows))
    assert "(10 is the hardest)" in words and "no teacher's signal" in words


def test_a_plain_plan_has_an_even_exposure_and_no_warning():
    profile = profile_of(np.random.default_rng(1).gamma(4, 0.5, 1000))
    plan = compile_plan(profile, PlanSettings(CurriculumOptions("random", 10), batch_size=8))
    rows = exposure(plan, profile)
    for row in rows:
        assert row.visits == row.plain_visits
        assert row.lr_visits == pytest.approx(row.plain_lr_visits, rel=0.05)
    assert plan_warnings(plan, rows) == []


def test_exposure_joins_by_id():
    profile = profile_of(np.random.default_rng(1).gamma(4, 0.5, 50))
    plan = compile_plan(profile, PlanSettings(batch_size=4))
    backwards = DifficultyProfile(profile.ids[::-1], profile.scores[::-1])
    assert exposure(plan, profile) == exposure(plan, backwards)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "calibratd"}, "Did you mean 'calibrated'"),
        ({"stages": 0}, "`stages` is 0, and must be 1 or greater"),
        ({"passes": 1.0, "iteration_ratio": 1.0}, "give one of passes and"),
        ({"passes": -1.0}, "must be greater than 0"),
        ({"stages": 5, "total_steps": 4}, "set curriculum.stages to 4"),
        ({"order": "backwards"}, "Unknown order"),
        ({"remainder": "kept"}, "Unknown remainder"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        CurriculumOptions(**options)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 0}, "`batch_size` is 0, and must be 1 or greater. It means: Examples of a"),
        ({"supervision": "texts"}, "Did you mean 'text'"),
        ({"student_share": {"kind": "shiftd"}}, "Did you mean 'shifted'"),
        ({"ce_weight": "linear"}, "A schedule is a number, or a mapping"),
        ({"seed": -1}, "must be 0 or greater"),
    ],
)
def test_settings_of_a_plan_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        PlanSettings(**{"batch_size": 2, **settings})


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_what_is_scheduled_keeps_to_one_range_in_python_and_in_a_recipe(name):
    low, high = LIMITS[name]
    key = "on_policy.fraction" if name == "on_policy" else f"loss.{name}"
    profile = profile_of([1.0, 2.0, 3.0])
    for bad in (low - 0.01, high + 0.01):
        words = rf"{name} must stay between {low:g} and {high:g}, and is {bad:g}\."
        with pytest.raises(ConfigError, match=words):
            compile_plan(profile, PlanSettings(batch_size=2, **{name: bad}))
        with pytest.raises(ConfigError, match=words.replace(name, f"{key}:", 1)):
            load_recipe({}, [f"{key}={bad}"], partial=True)


def test_values_out_of_range_are_refused():
    profile = profile_of([1.0, 2.0, 3.0])
    with pytest.raises(ConfigError, match="student_share"):
        compile_plan(
            profile,
            PlanSettings(batch_size=2, student_share={"kind": "linear", "start": 0, "end": 2}),
        )
    with pytest.raises(ConfigError, match="distill_temperature"):
        compile_plan(profile, PlanSettings(batch_size=2, distill_temperature=0.0))
    with pytest.raises(ConfigError, match="positive mean"):
        compile_plan(profile_of([-1.0, 0.5]), PlanSettings(batch_size=2))
    with pytest.raises(ConfigError, match="no option 'min_examples'"):
        compile_plan(
            profile, PlanSettings(CurriculumOptions("random", 2, min_examples=2), batch_size=2)
        )


@pytest.mark.parametrize(
    "options", [{"passes": 1e6}, {"total_steps": 10**8}, {"iteration_ratio": 1e6}]
)
def test_a_plan_that_no_memory_holds_is_refused(options):
    profile = profile_of(np.arange(1.0, 2001.0))
    with pytest.raises(ConfigError, match=r"would visit examples .* times, and 1,000,000,000 is"):
        compile_plan(profile, PlanSettings(CurriculumOptions(stages=20, **options), batch_size=64))
