"""What every schedule must keep, and what each one is for."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.errors import ConfigError
from tutelage.schedules import (
    GRIDS,
    LR_SCHEDULES,
    SCHEDULES,
    constant,
    cosine,
    join,
    learning_rate_factors,
    linear,
    progress_at,
    scheduled,
    steps,
)

SAMPLES = {
    "constant": {"value": 0.7},
    "linear": {"start": 1.0, "end": 2.0},
    "cosine": {"start": 1.0, "end": 0.1},
    "steps": {"values": [1.0, 4 / 3, 5 / 3, 2.0]},
    "join": {"schedules": [constant(value=1.0), linear(start=1.0, end=2.0)], "boundaries": [0.5]},
    "paper": {},
    "shifted": {},
    "capped": {"max": 0.8},
}


@pytest.fixture(params=sorted(SCHEDULES))
def schedule(request):
    return SCHEDULES[request.param].function(**SAMPLES[request.param])


def test_every_row_has_a_sample():
    assert set(SAMPLES) == set(SCHEDULES)


@given(progress=st.floats(0, 1))
def test_values_are_finite_and_repeatable(progress):
    for name, options in SAMPLES.items():
        value = SCHEDULES[name].function(**options)(progress)
        assert math.isfinite(value)
        assert value == SCHEDULES[name].function(**options)(progress)


def test_progress_outside_counts_as_the_nearer_end(schedule):
    assert schedule(-0.5) == schedule(0.0)
    assert schedule(1.5) == schedule(1.0)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(name, bad):
    options = {**SAMPLES[name], next(iter(SAMPLES[name])): bad}
    with pytest.raises(ValueError, match="finite"):
        SCHEDULES[name].function(**options)


def test_ends_and_middles():
    assert [linear(start=1, end=2)(x) for x in (0, 0.25, 1)] == [1, 1.25, 2]
    assert linear(start=0.1, end=0.7)(1.0) == 0.7
    assert cosine(start=0, end=1)(0.5) == pytest.approx(0.5)
    assert cosine(start=0, end=1)(1 / 3) == pytest.approx(0.25)
    assert join(schedules=[constant(value=1), linear(start=1, end=2)], boundaries=[0.5])(
        0.75
    ) == pytest.approx(1.5)


@given(count=st.integers(1, 60))
def test_steps_give_each_stage_its_own_value(count):
    schedule = steps(values=list(range(count)))
    spans = [schedule(progress_at(k, count, "span")) for k in range(1, count + 1)]
    starts = [schedule(progress_at(k, count, "start")) for k in range(1, count + 1)]
    assert spans == starts == list(range(count))


@pytest.mark.parametrize("boundaries", [[0.5, 0.2], [0.0, 0.5], [0.5, 1.0], [0.5]])
def test_join_refuses_boundaries_that_do_not_fit(boundaries):
    with pytest.raises(ValueError, match="oundaries"):
        join(schedules=[constant(value=1)] * 3, boundaries=boundaries)


def test_grids():
    assert [progress_at(k, 4, "span") for k in (1, 4)] == [0, 1]
    assert [progress_at(k, 4, "start") for k in (1, 4)] == [0, 0.75]
    assert [progress_at(k, 4, "end") for k in (1, 4)] == [0.25, 1]
    assert [progress_at(1, 1, grid) for grid in GRIDS] == [0, 0, 1, 0]
    assert [progress_at(k, 4, "behind") for k in (1, 2, 3, 4)] == [0, 0, 0.25, 0.5]
    with pytest.raises(ConfigError, match="Did you mean 'span'"):
        progress_at(1, 1, "spam")


STAGES = np.repeat(np.arange(1, 5), 3)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (0.3, [0.3] * 4),
        ({"kind": "paper"}, [0.25, 0.5, 0.75, 1.0]),
        ({"kind": "shifted"}, [0, 0.25, 0.5, 0.75]),
        ({"kind": "capped"}, [0.225, 0.45, 0.675, 0.9]),
        ({"kind": "capped", "max": 0.8}, [0.2, 0.4, 0.6, 0.8]),
        ({"kind": "linear", "start": 1.0, "end": 2.0}, [1, 4 / 3, 5 / 3, 2]),
        ({"kind": "steps", "values": [4, 3, 2, 1]}, [4, 3, 2, 1]),
    ],
)
def test_specs_by_stage(spec, expected):
    values = scheduled(spec).values(STAGES, 4)
    np.testing.assert_allclose(values, np.repeat(expected, 3), atol=1e-15)


def test_specs_by_step():
    spec = {"kind": "linear", "start": 0.0, "end": 11.0, "per": "step"}
    np.testing.assert_allclose(scheduled(spec).values(STAGES, 4), np.arange(12))


def test_one_stage_starts_at_the_start():
    spec = {"kind": "linear", "start": 1.0, "end": 2.0}
    assert scheduled(spec).values(np.ones(3, dtype=int), 1).tolist() == [1.0] * 3


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "lineer", "start": 0, "end": 1}, "Did you mean 'linear'"),
        ({"kind": "linear", "start": 0, "stop": 1}, "no option 'stop'"),
        ({"kind": "linear", "start": 0}, "needs the option 'end'"),
        ({"kind": "linear", "start": 0, "end": 1, "per": "epoch"}, "'stage' or 'step'"),
        ({"kind": "linear", "start": 0, "end": 1, "grid": "middle"}, "span, start, end"),
        ({"kind": "paper", "max": 0.5}, "no option 'max'"),
        ({"kind": "paper", "grid": "span"}, "no option 'grid'"),
        ({"kind": "capped", "max": "x"}, "'capped' does not fit"),
        ({"kind": "steps", "values": []}, "at least one value"),
        ({"value": 1}, "needs a `kind`"),
        ("linear", "is a number, or a mapping"),
    ],
)
def test_specs_that_do_not_fit_are_refused(spec, words):
    with pytest.raises(ConfigError, match=words):
        scheduled(spec)


@pytest.mark.parametrize("kind", sorted(LR_SCHEDULES))
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.1, 0.33])
def test_learning_rates_are_those_of_transformers(kind, warmup_ratio):
    import torch
    from transformers import get_scheduler

    total = 37
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = {"constant": "constant_with_warmup"}.get(kind, kind)
    reference = get_scheduler(
        name, optimizer, num_warmup_steps=math.ceil(warmup_ratio * total), num_training_steps=total
    )
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    factors = learning_rate_factors(kind, total, warmup_ratio=warmup_ratio)
    np.testing.assert_allclose(factors, expected, atol=1e-12)


def test_learning_rate_floor():
    factors = learning_rate_factors("cosine", 1000, min_ratio=0.1)
    assert factors[0] == 1.0 and factors[-1] == pytest.approx(0.1, abs=1e-4)
    with pytest.raises(ConfigError, match="Did you mean 'cosine'"):
        learning_rate_factors("cosin", 10)
