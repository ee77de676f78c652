"""Matched hidden states: what they measure, and that no cut, kill or order of tokens changes it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training_trainer import KillAt, cpd_plan, history, make, weights

from conftest_models import random_rows, tiny_model
from tutelage.errors import ConfigError, RunFolderError
from tutelage.recipe import load_recipe
from tutelage.training import state_maps
from tutelage.training.checkpoints import last_checkpoint
from tutelage.training.matched_states import MatchedStates
from tutelage.training.state_maps import Moments, best_maps, flops_of_token

CPU = torch.device("cpu")


def states(tokens, student, teacher, seed=0):
    """States of two models that share some of what they know, far from the origin."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(tokens, min(student, teacher)))
    x = shared @ rng.normal(size=(shared.shape[1], student)) + rng.normal(size=(tokens, student))
    y = shared @ rng.normal(size=(shared.shape[1], teacher)) + rng.normal(size=(tokens, teacher))
    y *= rng.lognormal(0, 2, teacher)  # a few coordinates vary far more than the others
    return torch.from_numpy(x + 5), torch.from_numpy(y - 3)


def maps_of(x, y, floor):
    def moments(left, right):
        none = Moments.none(left.shape[1], right.shape[1], CPU)
        return none.with_sums(none.sums(left, right), 1e9)

    return best_maps(moments(x, x), moments(x, y), moments(y, y), floor)


def as_they_are(monkeypatch):
    """Correlations without a ridge, and trusted however few tokens they are of."""
    monkeypatch.setattr(state_maps, "RIDGE", 0.0)
    monkeypatch.setattr(state_maps, "_unsure", lambda moments: 0.0)


def canonical_correlations(x, y):
    """By Björck and Golub: cosines of the angles between the two column spaces."""
    x, y = (np.linalg.qr(one - one.mean(0))[0] for one in (x.numpy(), y.numpy()))
    return np.linalg.svd(x.T @ y, compute_uv=False)


@pytest.mark.parametrize(("student", "teacher"), [(5, 9), (9, 5), (6, 6)])
def test_the_gap_is_one_minus_the_mean_squared_canonical_correlation(monkeypatch, student, teacher):
    as_they_are(monkeypatch)
    x, y = states(400, student, teacher)
    maps = maps_of(x, y, 1e-13)
    assert maps.directions == pytest.approx(min(student, teacher), rel=1e-5)
    expected = 1 - (canonical_correlations(x, y) ** 2).mean()
    assert float(maps.gap(x.float(), y.float()).mean()) == pytest.approx(expected, abs=1e-4)


def test_it_does_not_matter_in_which_coordinates_the_student_says_it(monkeypatch):
    as_they_are(monkeypatch)
    x, y = states(300, 6, 8)
    turned = x @ torch.from_numpy(np.random.default_rng(1).normal(size=(6, 6))) + 2
    one, other = maps_of(x, y, 0.01), maps_of(turned, y, 0.01)
    assert one.directions == pytest.approx(other.directions)
    torch.testing.assert_close(
        one.gap(x.float(), y.float()), other.gap(turned.float(), y.float()), rtol=1e-3, atol=1e-4
    )


def test_the_gradient_is_that_of_the_distance_with_its_map_following(monkeypatch):
    """Against autograd through the least squares themselves, in float64."""
    as_they_are(monkeypatch)
    x, y = states(200, 5, 7)
    floor = 0.05
    x.requires_grad_(True)
    z = (y - y.mean(0)) / y.std(0, unbiased=False)
    values, vectors = torch.linalg.eigh(z.T @ z / len(z))
    white = z @ (vectors / (values + floor).sqrt())
    centred = x - x.mean(0)
    fitted = centred @ torch.linalg.lstsq(centred, white).solution
    (expected,) = torch.autograd.grad((white - fitted).square().sum(), x)
    maps = maps_of(x.detach(), y, floor)
    (found,) = torch.autograd.grad(maps.gap(x.float(), y.float()).sum() * maps.directions, x)
    # The mean moves too when the map follows; of it the gap's gradient is none.
    torch.testing.assert_close(found - found.mean(0), expected, rtol=1e-3, atol=1e-4)


def test_directions_below_the_floor_count_less():
    x, y = states(300, 4, 6)
    assert maps_of(x, y, 0.01).directions > 3.5 > 1.0 > maps_of(x, y, 100.0).directions


def test_coordinates_that_do_not_move_say_nothing():
    x, y = states(300, 4, 6)
    plain = maps_of(x, y, 0.01)
    still = torch.full((300, 1), 7.0, dtype=torch.float64)
    x_still, y_still = torch.cat([x, still], 1), torch.cat([still, y], 1)
    padded = maps_of(x_still, y_still, 0.01)
    # One coordinate more for the same tokens leaves a little more unsure.
    assert padded.directions == pytest.approx(plain.directions, rel=1e-2)
    torch.testing.assert_close(
        padded.gap(x_still.float(), y_still.float()), plain.gap(x.float(), y.float()),
        rtol=0.05, atol=0.02,
    )  # fmt: skip


@pytest.mark.parametrize("tokens", [48, 60, 120, 480])
def test_few_tokens_promise_nothing_that_others_do_not_keep(monkeypatch, tokens):
    """Twelve coordinates each, and nothing in common: a map can only learn noise."""
    rng = np.random.default_rng(tokens)
    x, y = (torch.from_numpy(rng.normal(size=(tokens + 2000, 12))).float() for _ in range(2))
    seen, others = slice(0, tokens), slice(tokens, None)
    careful = maps_of(x[seen].double(), y[seen].double(), 0.01).gap(x[others], y[others]).mean()
    as_they_are(monkeypatch)
    trusting = maps_of(x[seen].double(), y[seen].double(), 0.01).gap(x[others], y[others]).mean()
    assert 0.9 < careful < trusting


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 199), max_size=6), far=st.sampled_from([0.0, 1e3]))
def test_moments_of_parts_are_those_of_the_whole(cuts, far):
    x, y = states(200, 3, 4)
    x += far
    moments = Moments.none(3, 4, CPU)
    for step in range(3):
        rows = x * (step + 1), y / (step + 1)
        parts = zip(*(one.tensor_split(sorted(cuts)) for one in rows), strict=True)
        moments = moments.with_sums(sum(moments.sums(*part) for part in parts), 300.0)
    ages = np.exp(-200 / 300 * np.arange(2, -1, -1)).repeat(200)
    left = np.concatenate([x * s for s in (1, 2, 3)])
    right = np.concatenate([y / s for s in (1, 2, 3)])
    assert float(moments.count) == pytest.approx(ages.sum())
    means = [np.average(one, axis=0, weights=ages) for one in (left, right)]
    np.testing.assert_allclose(moments.left_A, means[0], rtol=1e-9)
    expected = np.einsum("n,na,nb->ab", ages, left - means[0], right - means[1]) / ages.sum()
    scale = left.std(0).max() * right.std(0).max()
    np.testing.assert_allclose(moments.covariance, expected, atol=1e-9 * scale)


def test_nothing_is_matched_before_there_are_enough_tokens():
    x, y = states(100, 4, 10)
    matched = MatchedStates(1.0, 0.01, CPU)
    for _ in range(5):
        assert not matched.is_ready
        assert matched(x[:9], y[:9]).item() == 0.0
        matched.settle(lambda tensor: tensor)
    # 45 tokens; four for each of ten coordinates are enough.
    assert matched.is_ready
    x.requires_grad_(True)
    gap = matched(x, y, torch.full((100,), 0.5))
    assert gap.item() == pytest.approx(0.5 * matched(x, y).item())
    assert torch.autograd.grad(gap, x)[0].abs().sum() > 0


def test_a_process_that_saw_no_token_takes_part():
    x, y = states(60, 4, 6)
    worlds = [MatchedStates(1.0, 0.01, CPU) for _ in range(2)]
    worlds[0](x, y)
    assert worlds[1](x[:0], y[:0, 0]).item() == 0.0

    sent = []
    worlds[0].settle(lambda tensor: (sent.append(tensor.clone()), tensor)[1])
    # The other adds nothing, and gets the same sums: as many, as often.
    inbox = iter(sent)

    def gather(tensor):
        theirs = next(inbox)
        assert tensor.shape == theirs.shape and not tensor.any()
        return theirs

    worlds[1].settle(gather)
    maps = [vars(world._maps).values() for world in worlds]
    for one, other in zip(*maps, strict=True):
        assert one == other if isinstance(one, float) else torch.equal(one, other)


def run(folder, rows, callbacks=None, **options):
    plan = cpd_plan(rows, student_share=0.2, batch_size=4)
    options = {"per_device_train_batch_size": 4, **options}
    return make(folder, rows, plan=plan, callbacks=callbacks, state_weight=2.0, **options)


@pytest.fixture
def many():
    return random_rows(48)


def test_the_trainer_adds_what_plain_pytorch_adds(tmp_path, many):
    """The first step after there were enough tokens, against the moments of those before."""
    trainer = run(tmp_path, many, max_steps=9)
    trainer.train()
    log = history(tmp_path)
    first = next(row["step"] for row in log if "state_gap" in row)
    assert 2 < first <= 9 and 0 < log[first - 1]["state_gap"] < 4
    for row in log:
        plain = row["ce_weight"] * row["ce"] + (1 - row["ce_weight"]) * row["kd"]
        assert row["loss"] == pytest.approx(plain + 2.0 * row.get("state_gap", 0.0), rel=1e-5)


@pytest.mark.parametrize(
    "cut",
    [
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        {"micro_batch_tokens": 24},
        {"padding_free": False},
    ],
    ids=["accumulation", "parts", "padded"],
)
def test_a_step_may_be_cut_in_any_way(tmp_path, many, cut):
    student = {"student": tiny_model(seed=1)}
    options = {"optim": "sgd", "learning_rate": 1e-2}
    whole = run(tmp_path / "whole", many, **options, **student)
    whole.train()
    cut_up = run(tmp_path / "cut", many, student=tiny_model(seed=1), **options, **cut)
    cut_up.train()
    assert any("state_gap" in row for row in history(tmp_path / "whole"))
    torch.testing.assert_close(weights(whole), weights(cut_up), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kill_at", [1, 6, 9])
def test_resume_is_exact_to_the_bit(tmp_path, many, kill_at):
    options = {"save_strategy": "steps", "save_steps": 2}
    whole = run(tmp_path / "whole", many, **options)
    whole.train()
    folder = tmp_path / "broken"
    with pytest.raises(KeyboardInterrupt):
        run(folder, many, callbacks=[KillAt(kill_at)], **options).train()
    resumed = run(folder, many, **options)
    newest = last_checkpoint(folder)
    resumed.train(resume_from_checkpoint=None if newest is None else str(newest))
    assert torch.equal(weights(whole), weights(resumed))
    # A second training of the same trainer knows nothing of the first.
    assert resumed.states.is_ready
    resumed.states.reset()
    assert not resumed.states.is_ready


def test_a_checkpoint_without_moments_is_refused(tmp_path, many):
    plan = cpd_plan(many, student_share=0.2, batch_size=4)
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    options |= {"per_device_train_batch_size": 4}
    make(tmp_path, many, plan=plan, **options).train()
    with pytest.raises(RunFolderError, match="no moments of hidden states"):
        run(tmp_path, many, **options).train(resume_from_checkpoint=True)


def test_what_cannot_be_matched_is_refused(tmp_path, many):
    plan = cpd_plan(many, ce_weight=1.0)
    with pytest.raises(ConfigError, match="steps that ask no teacher"):
        make(tmp_path, many, plan=plan, state_weight=1.0)
    with pytest.raises(ConfigError, match="must be 0 or greater"):
        make(tmp_path, many, state_weight=-1.0)
    with pytest.raises(ConfigError, match="likeliest tokens alone"):
        MatchedStates(1.0, 0.01, CPU)(torch.ones(2, 3), torch.ones(2, 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["loss.ce_weight=1"], "asks the teacher about every token"),
        (["teacher.signal=topk"], "stores the likeliest tokens alone"),
    ],
)
def test_recipes_that_cannot_be_matched_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        load_recipe("quickstart", ["loss.state_weight=1", *changes])


def test_a_ladder_is_refused_unless_it_is_mixed():
    changes = ["loss.state_weight=1", "loss.ce_weight=0.3", "supervision={kind: logits}"]
    with pytest.raises(ConfigError, match="several, one after another"):
        load_recipe("embedded_ladder", changes)
    load_recipe("embedded_ladder", [*changes, "teacher_schedule={kind: ensemble}"])


def test_operations_are_counted_for_the_products_that_are_made():
    """By torch's own counter: one token, its moments (the teacher's every fourth step) and maps."""
    from torch.utils.flop_counter import FlopCounterMode

    x, y = (one.float() for one in states(500, 12, 20))
    matched = MatchedStates(1.0, 0.01, CPU)
    matched(x, y)
    matched.settle(lambda tensor: tensor)
    x.requires_grad_(True)
    with FlopCounterMode(display=False) as counter:
        for _ in range(state_maps.EVERY):
            matched(x, y).backward()
            matched._steps += 1
    steps = state_maps.EVERY * len(x)
    assert counter.get_total_flops() == pytest.approx(steps * flops_of_token(12, 20), rel=0.01)
