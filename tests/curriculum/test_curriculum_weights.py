"""Weights of examples, and draws that withhold nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from tutelage.curriculum import (
    CurriculumOptions,
    PlanSettings,
    compile_plan,
    describe_plan,
    exposure,
    load_plan,
    plan_fingerprint,
    replan,
    save_plan,
)
from tutelage.curriculum.draws import drawn, tilted
from tutelage.curriculum.weights import EXAMPLE_WEIGHTS
from tutelage.errors import ConfigError
from tutelage.types import DifficultyProfile


def profile_of(scores):
    return DifficultyProfile([f"e{i:03d}" for i in range(len(scores))], np.asarray(scores))


def plan_of(profile, kind="random", stages=3, seed=0, **options):
    curriculum = CurriculumOptions(kind, stages, **options)
    return compile_plan(profile, PlanSettings(curriculum, batch_size=4, seed=seed))


SCORES = np.random.default_rng(1).gamma(4, 0.6, 30)


def test_pass_rates_by_hand():
    failures = np.asarray([0.0, 0.25, 0.5, 1.0])
    places = np.asarray([0.125, 0.375, 0.625, 0.875])
    found = EXAMPLE_WEIGHTS["pass_rate"].function(failures, places, floor=0.1)
    assert found.tolist() == [0.1, 0.75, 1.0, 0.1]
    found = EXAMPLE_WEIGHTS["middle"].function(failures, places, floor=0.5)
    assert found.tolist() == [0.5, 0.9375, 0.9375, 0.5]
    with pytest.raises(ConfigError, match="shares of failures, and difficulties here"):
        plan_of(profile_of(SCORES), weights={"kind": "pass_rate"})


def test_a_plan_knows_what_each_visit_counts(tmp_path):
    profile = profile_of(SCORES)
    plan = plan_of(profile, weights={"kind": "middle"})
    place = (np.argsort(np.argsort(profile.scores)) + 0.5) / 30
    expected = np.maximum(0.1, 4 * place * (1 - place))
    assert plan.visit_weight.tolist() == pytest.approx(expected[plan.visits].tolist())
    step = 2
    ids = [plan.ids[i] for i in plan.positions(step)]
    assert plan.weights_of(step) == {i: pytest.approx(expected[int(i[1:])]) for i in ids}
    save_plan(tmp_path, plan, describe_plan(plan, profile, "mine"))
    again = load_plan(tmp_path)
    assert again.visit_weight.tolist() == plan.visit_weight.tolist()
    plain = plan_of(profile)
    assert plan_fingerprint(again) == plan_fingerprint(plan) != plan_fingerprint(plain)
    assert not len(plain.visit_weight) and plain.weights_of(step) == {}


def test_exposure_counts_what_visits_count():
    profile = profile_of(SCORES)
    plan = plan_of(profile, weights={"kind": "middle"})
    lr = [0.0] * 10
    tenth = {int(i): n for n, some in enumerate(np.array_split(profile.order, 10)) for i in some}
    for step in range(plan.total_steps):
        weights = plan.weights_of(step)
        mean = np.mean([weights[plan.ids[i]] for i in plan.positions(step)])
        for i in plan.positions(step):
            lr[tenth[int(i)]] += plan.lr_factor[step] * weights[plan.ids[i]] / mean
    assert [row.lr_visits for row in exposure(plan, profile)] == pytest.approx(lr)


def test_weights_are_measured_anew_with_difficulty():
    profile, settings_ = (
        profile_of(SCORES),
        CurriculumOptions("random", 3, weights={"kind": "middle"}),
    )
    settings_ = PlanSettings(settings_, batch_size=4)
    plan = compile_plan(profile, settings_)
    after = replan(plan, 1, profile_of(SCORES[::-1]), settings_)
    first = plan.offsets[(plan.step_stage == 1).sum()]
    assert after.visit_weight[:first].tolist() == plan.visit_weight[:first].tolist()
    expected = compile_plan(profile_of(SCORES[::-1]), settings_)
    by_example = dict(zip(expected.visits.tolist(), expected.visit_weight.tolist(), strict=True))
    late = slice(plan.offsets[-1] - 4, None)
    assert after.visit_weight[late].tolist() == [by_example[i] for i in after.visits[late].tolist()]


# ---- soft curricula --------------------------------------------------------------------------


@settings(deadline=None, max_examples=150)
@given(
    scores=st.lists(
        st.one_of(st.floats(-5, 20, allow_nan=False), st.sampled_from([0.5, 1.0])),
        min_size=1, max_size=40,
    ),
    stages=st.integers(1, 6),
    floor=st.sampled_from([0.0, 0.2, 0.4]),
    start=st.sampled_from([0.5, 0.75, 1.0]),
)  # fmt: skip
def test_the_mean_difficulty_rises_by_equal_amounts_and_nothing_is_withheld(
    scores, stages, floor, start
):
    scores = np.sort(np.asarray(scores))
    least, mean = scores[0], scores.mean()
    for stage in range(1, stages + 1):
        weights = tilted(scores, stage, stages, start=start, floor=floor)
        x = 1.0 if stages == 1 else start + (1 - start) * (stage - 1) / (stages - 1)
        assert weights.mean() == pytest.approx(1.0)
        assert (weights >= floor).all()
        assert (np.diff(weights) <= 1e-12).all(), "easier examples never less often"
        wanted = least + x * (mean - least)
        assert np.average(scores, weights=weights) == pytest.approx(wanted, abs=1e-7)


def test_no_other_draw_with_that_mean_is_nearer_to_an_even_one():
    scores = np.sort(SCORES[:8])
    found = tilted(scores, 1, 3, start=0.6, floor=0.0) / 8
    wanted = scores[0] + 0.6 * (scores.mean() - scores[0])
    best = minimize(
        lambda p: (p * np.log(np.maximum(p, 1e-300))).sum(),
        np.full(8, 1 / 8),
        bounds=[(0, 1)] * 8,
        constraints=[
            {"type": "eq", "fun": lambda p: p.sum() - 1},
            {"type": "eq", "fun": lambda p: p @ scores - wanted},
        ],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    np.testing.assert_allclose(found, best.x, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(
    weights=st.lists(st.floats(0.01, 5), min_size=1, max_size=30),
    count=st.integers(1, 100),
    seed=st.integers(0, 5),
)
def test_each_example_comes_as_often_as_it_should_but_for_rounding(weights, count, seed):
    weights = np.asarray(weights)
    found = drawn(np.arange(len(weights)), weights, count, np.random.default_rng(seed))
    times = np.bincount(found, minlength=len(weights))
    expected = count * weights / weights.sum()
    assert times.sum() == count
    assert (times >= np.floor(expected - 1e-9)).all() and (times <= np.ceil(expected + 1e-9)).all()


def test_a_soft_plan_draws_from_everything(tmp_path):
    profile = profile_of(SCORES)
    plan = plan_of(profile, "soft", stages=5, passes=4.0, seed=2)
    same = plan_of(profile, "soft", stages=5, passes=4.0, seed=2)
    assert plan_fingerprint(plan) == plan_fingerprint(same)
    assert [stage.num_examples for stage in plan.stages] == [30] * 5
    targets = [stage.mean_difficulty for stage in plan.stages]
    assert np.diff(targets) == pytest.approx([(targets[-1] - targets[0]) / 4] * 4)
    assert targets[-1] == pytest.approx(SCORES.mean())
    for number, stage in enumerate(plan.stages, 1):
        steps = np.flatnonzero(plan.step_stage == number)
        visits = plan.visits[plan.offsets[steps[0]] : plan.offsets[steps[-1] + 1]]
        # Draws are as good as their rounding; here every fourth of a visit is rounded.
        assert SCORES[visits].mean() == pytest.approx(stage.mean_difficulty, rel=0.05)
    tenths = exposure(plan, profile)
    assert tenths[0].visits > tenths[4].visits > 0 and tenths[9].visits > 0
    hard = plan_of(profile, "soft", stages=5, passes=4.0, order="hard_first")
    assert hard.stages[0].mean_difficulty > hard.stages[-1].mean_difficulty
    mixed = plan_of(profile, "soft", stages=5, passes=4.0, order="random")
    assert mixed.stages[0].mean_difficulty == pytest.approx(SCORES.mean(), rel=0.3)


def test_a_floor_that_keeps_the_mean_up_is_refused():
    with pytest.raises(ConfigError, match=r"must lie above `floor`"):
        plan_of(profile_of(SCORES), "soft", options={"start": 0.2, "floor": 0.3})
