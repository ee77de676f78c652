"""Who goes on in a search, and what that costs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.studies.search import going_on, ranking, rung_steps, rung_value, spent

THIRD = 1 / 3


@pytest.mark.parametrize(
    ("total", "rungs", "keep", "steps"),
    [
        (110, 3, THIRD, [12, 36, 110]),
        (110, 1, THIRD, [110]),
        (220, 2, 0.5, [110, 220]),
        (5, 4, THIRD, [1, 3, 5]),
        (1, 3, THIRD, [1]),
    ],
)
def test_rungs_are_multiples_of_the_first_and_end_with_the_plan(total, rungs, keep, steps):
    assert rung_steps(total, rungs, keep) == steps


@given(
    total=st.integers(1, 5000), rungs=st.integers(1, 6), keep=st.floats(0.1, 0.9, exclude_max=True)
)
def test_rungs_rise_to_the_end(total, rungs, keep):
    steps = rung_steps(total, rungs, keep)
    assert steps == sorted(set(steps)) and steps[-1] == total and steps[0] >= 1
    assert len(steps) <= rungs
    assert all(step % steps[0] == 0 for step in steps[:-1])


def test_the_best_go_on_and_of_equals_the_first():
    assert going_on([0.1, 0.5, 0.5, 0.3, 0.2, 0.4], THIRD) == [1, 2]
    assert going_on([0.1, 0.2], THIRD) == [1]
    assert going_on([0.1, 0.2, 0.4, 0.3], THIRD, least=3) == [2, 3, 1]
    assert going_on([0.1, 0.2], THIRD, least=3) == [1, 0]
    assert going_on([-math.inf, math.nan, 0.0], THIRD) == [2]
    assert ranking([math.nan, -1.0, 2.0, -math.inf]) == [2, 1, 0, 3]


def test_a_search_of_24_costs_about_a_quarter_of_the_grid():
    rungs = rung_steps(110, 3, THIRD)
    cost = spent(rungs, [24, 8, 3])
    # By hand: 24 x 12 + 8 x (36 - 12) + 3 x (110 - 36).
    assert cost == 288 + 192 + 222
    assert cost / (24 * 110) < THIRD


def test_what_a_run_is_worth_at_a_rung():
    rows = [
        {"step": 4, "log_likelihood": -2.0},
        {"step": 8, "log_likelihood": -1.0},
        {"step": 12, "log_likelihood": -1.5},
    ]
    assert rung_value(rows, "log_likelihood", 12, best=False) == -1.5
    assert rung_value(rows, "log_likelihood", 12, best=True) == -1.0
    assert rung_value(rows, "log_likelihood", 8, best=False) == -1.0
    assert rung_value([], "log_likelihood", 8, best=False) == -math.inf
    diverged = [*rows, {"step": 16, "log_likelihood": math.nan}]
    assert rung_value(diverged, "log_likelihood", 16, best=False) == -math.inf
