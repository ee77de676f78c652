"""POCL's, DA-KD's and CLPD's ways through the data, teacher ladders, and plans made anew."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.curriculum import (
    CurriculumOptions,
    LearningRate,
    PlanSettings,
    compile_plan,
    describe_plan,
    load_plan,
    plan_fingerprint,
    save_plan,
)
from tutelage.errors import ConfigError
from tutelage.types import DifficultyProfile

PAPER_N = 11_435


def profile_of(scores):
    return DifficultyProfile(tuple(f"id{i:05d}" for i in range(len(scores))), np.asarray(scores))


def spread(size, seed=0):
    return profile_of(np.random.default_rng(seed).gamma(4, 0.5, size))


def visited(plan, stage):
    return np.concatenate(
        [plan.positions(s) for s in range(plan.total_steps) if plan.step_stage[s] == stage]
    )


def test_published_iterations_of_pocl():
    options = CurriculumOptions("baby_steps", stages=4, passes=8, remainder="drop", restart=True)
    plan = compile_plan(spread(PAPER_N), PlanSettings(options, batch_size=64))
    assert [stage.steps for stage in plan.stages] == [352, 712, 1064, 1424]
    assert plan.total_steps == 3552
    assert plan.restarts.tolist() == [352, 352 + 712, 352 + 712 + 1064]


def test_published_iterations_of_dakd():
    # 3,570 iterations are 10 epochs of 357 at batch 32: 11,424 examples are used in each.
    profile = spread(357 * 32)
    plain = compile_plan(
        profile,
        PlanSettings(CurriculumOptions("random", stages=10, remainder="drop"), batch_size=32),
    )
    assert plain.total_steps == 3570
    for decay in ("cosine", "linear"):
        options = CurriculumOptions(
            "shrinking", stages=10, remainder="trim", options={"decay": decay}
        )
        assert compile_plan(profile, PlanSettings(options, batch_size=32)).total_steps == 1963


def test_cpds_run_of_dakd_makes_52_5_percent():
    options = CurriculumOptions("shrinking", stages=20, options={"decay": "linear"})
    plan = compile_plan(spread(PAPER_N), PlanSettings(options, batch_size=8))
    assert plan.total_steps / plan.baseline_steps == pytest.approx(0.525, abs=2e-4)


def test_shrinking_draws_mostly_hard_and_a_tenth_easy():
    profile = spread(1000)
    options = CurriculumOptions("shrinking", stages=4, options={"decay": "linear"})
    plan = compile_plan(profile, PlanSettings(options, batch_size=10))
    assert [stage.num_examples for stage in plan.stages] == [1000, 750, 500, 250]
    rank = np.empty(1000, dtype=int)
    rank[profile.order[::-1]] = np.arange(1000)  # 0 is the hardest
    for stage, size in ((3, 500), (4, 250)):
        ranks = rank[np.unique(visited(plan, stage))]
        assert (ranks >= size).sum() == round(0.1 * size)
        assert (ranks < size).sum() == size - round(0.1 * size)
    # 250 easy ones are fewer than a tenth of 750 would need only above 1 / 1.1 of the data.
    nine_tenths = CurriculumOptions("shrinking", stages=20, options={"easy_share": 0.5})
    assert compile_plan(profile, PlanSettings(nine_tenths, batch_size=10)).stages[
        1
    ].num_examples == round(1000 * (math.cos(math.pi / 20) + 1) / 2)


@settings(deadline=None, max_examples=80)
@given(
    size=st.integers(3, 80),
    shares=st.lists(st.floats(0.05, 1.0), min_size=1, max_size=3),
    cumulative=st.booleans(),
    batch=st.integers(1, 7),
)
def test_bands_share_out_the_data(size, shares, cumulative, batch):
    profile = spread(size)
    options = CurriculumOptions(
        "bands", stages=len(shares), options={"shares": shares, "cumulative": cumulative}
    )
    plan = compile_plan(profile, PlanSettings(options, batch_size=batch))
    sizes = [stage.num_examples for stage in plan.stages]
    assert min(sizes) >= 1
    ends = sizes if cumulative else np.cumsum(sizes)
    assert ends[-1] == size
    wanted = np.cumsum(shares) / sum(shares) * size
    assert np.abs(np.asarray(ends) - wanted).max() <= len(shares)
    counts = np.bincount(plan.visits, minlength=size)
    if cumulative:
        easy_first = counts[profile.order]
        assert (np.diff(easy_first) <= 0).all()
    else:
        assert (counts == 1).all()
    if len(shares) > 1 and not cumulative:
        means = [stage.mean_difficulty for stage in plan.stages]
        assert means == sorted(means)


def test_a_narrow_band_keeps_an_example():
    options = CurriculumOptions("bands", stages=3, options={"shares": [1.0, 0.125, 0.5]})
    plan = compile_plan(spread(5), PlanSettings(options, batch_size=1))
    assert [stage.num_examples for stage in plan.stages] == [3, 1, 1]


@pytest.mark.parametrize("order", ["easy_first", "hard_first"])
@pytest.mark.parametrize("cumulative", [False, True])
def test_shares_belong_to_bands_of_difficulty(order, cumulative):
    more = {"shares": [0.1, 0.2, 0.7], "cumulative": cumulative}
    plan = compile_plan(
        spread(100),
        PlanSettings(CurriculumOptions("bands", 3, order=order, options=more), batch_size=1),
    )
    sizes = [10, 20, 70] if order == "easy_first" else [70, 20, 10]
    expected = np.cumsum(sizes).tolist() if cumulative else sizes
    assert [stage.num_examples for stage in plan.stages] == expected


def test_published_iterations_of_cosine_growth():
    options = CurriculumOptions("cosine_growth", stages=20)
    plan = compile_plan(spread(PAPER_N), PlanSettings(options, batch_size=8))
    assert plan.total_steps == 24_299 and plan.stages[0].num_examples == int(0.7 * PAPER_N)
    from_nothing = CurriculumOptions("cosine_growth", stages=3, options={"start": 0.0})
    sizes = [
        stage.num_examples
        for stage in compile_plan(spread(9), PlanSettings(from_nothing, batch_size=1)).stages
    ]
    assert sizes == [1, 4, 9]


def test_anchored_targets_rise_evenly_from_the_easiest():
    profile = spread(500)
    shifted = profile_of(profile.scores + 7.0)
    sizes = {}
    for name, of in (("plain", profile), ("shifted", shifted)):
        plan = compile_plan(
            of, PlanSettings(CurriculumOptions("calibrated_anchored", 5), batch_size=4)
        )
        sizes[name] = [stage.num_examples for stage in plan.stages]
        targets = [stage.target_difficulty for stage in plan.stages]
        assert np.allclose(np.diff(targets), targets[1] - targets[0])
        assert targets[-1] == pytest.approx(of.scores.mean())
        for stage in plan.stages:
            assert stage.mean_difficulty >= stage.target_difficulty - 1e-9
    assert sizes["plain"] == sizes["shifted"]
    printed = [
        [
            s.num_examples
            for s in compile_plan(
                p, PlanSettings(CurriculumOptions("calibrated", 5), batch_size=4)
            ).stages
        ]
        for p in (profile, shifted)
    ]
    assert printed[0] != printed[1]


def test_a_restart_runs_the_learning_rate_anew_in_every_stage():
    options = CurriculumOptions("baby_steps", stages=3, passes=4, restart=True)
    plan = compile_plan(
        spread(96), PlanSettings(options, batch_size=8, learning_rate=LearningRate("cosine"))
    )
    for stage in plan.stages:
        here = plan.lr_factor[plan.step_stage == stage.stage]
        expected = [(1 + math.cos(math.pi * s / len(here))) / 2 for s in range(len(here))]
        assert np.allclose(here, expected)


TEACHERS = ("weak", "strong")


@pytest.mark.parametrize(
    ("schedule", "names"),
    [
        ("strongest", ["strong"] * 4),
        ("weakest", ["weak"] * 4),
        ("ladder", ["weak", "weak", "strong", "strong"]),
        ("reversed_ladder", ["strong", "strong", "weak", "weak"]),
        ({"kind": "ladder", "shares": [0.25, 0.75]}, ["weak", "strong", "strong", "strong"]),
        # Shares belong to the teachers, whichever of them comes first.
        (
            {"kind": "reversed_ladder", "shares": [0.25, 0.75]},
            ["strong", "strong", "strong", "weak"],
        ),
    ],
)
@pytest.mark.parametrize("supervision", ["logits", "text"])
def test_who_teaches_when(schedule, names, supervision):
    plan = compile_plan(
        spread(60),
        PlanSettings(
            CurriculumOptions("bands", stages=4, passes=2),
            batch_size=7,
            teachers=TEACHERS,
            teacher_schedule=schedule,
            supervision=supervision,
        ),
    )
    if supervision == "logits":
        assert [stage.teacher for stage in plan.stages] == names
        for step in range(plan.total_steps):
            teachers = plan.visit_teacher[plan.offsets[step] : plan.offsets[step + 1]]
            assert len(set(teachers.tolist())) == 1
            assert plan.teacher_of(step) == names[plan.step_stage[step] - 1]
        return
    # Each example keeps the teacher of its band, in whatever step it lands.
    band_of = np.empty(60, dtype=int)
    for number, positions in enumerate(np.split(spread(60).order, [15, 30, 45])):
        band_of[positions] = number
    expected = [names[band_of[position]] for position in plan.visits]
    assert [TEACHERS[t] for t in plan.visit_teacher] == expected


def test_three_teachers_on_three_bands():
    plan = compile_plan(
        spread(30),
        PlanSettings(
            CurriculumOptions("bands", stages=3),
            batch_size=5,
            teachers=("a", "b", "c"),
            teacher_schedule="ladder",
        ),
    )
    assert [stage.teacher for stage in plan.stages] == ["a", "b", "c"]


def test_a_random_mix_is_fixed_for_an_example_and_even_over_them():
    plan = compile_plan(
        spread(600),
        PlanSettings(
            CurriculumOptions("random", stages=3),
            batch_size=8,
            teachers=TEACHERS,
            teacher_schedule="random_mix",
            supervision="text",
        ),
    )
    by_example = {}
    for position, teacher in zip(plan.visits, plan.visit_teacher, strict=True):
        by_example.setdefault(int(position), set()).add(int(teacher))
    assert all(len(teachers) == 1 for teachers in by_example.values())
    strong = sum(teachers == {1} for teachers in by_example.values())
    assert 240 < strong < 360
    by_step = compile_plan(
        spread(600),
        PlanSettings(
            CurriculumOptions("random", stages=3),
            batch_size=8,
            teachers=TEACHERS,
            teacher_schedule="random_mix",
        ),
    )
    names = [by_step.teacher_of(step) for step in range(by_step.total_steps)]
    assert 0.35 < names.count("weak") / len(names) < 0.65


def test_pairs_that_nobody_wrote_are_left_out():
    profile = spread(40)
    available = np.ones((2, 40), dtype=bool)
    easy, hard = profile.order[:20], profile.order[20:]
    available[0, easy[:5]] = False
    available[1, hard[:8]] = False
    available[1, easy] = False  # not asked for, so it takes nothing away
    make = {
        "batch_size": 4,
        "teachers": TEACHERS,
        "teacher_schedule": "ladder",
        "supervision": "text",
    }
    plan = compile_plan(
        profile, PlanSettings(CurriculumOptions("bands", 2), **make), available=available
    )
    assert [stage.num_examples for stage in plan.stages] == [15, 12]
    assert not set(plan.visits.tolist()) & {*easy[:5], *hard[:8]}
    available[1] = False
    with pytest.raises(ConfigError, match="Stage 2 has no example left"):
        compile_plan(
            profile, PlanSettings(CurriculumOptions("bands", 2), **make), available=available
        )


def test_on_policy_steps_are_drawn_from_their_schedule():
    plan = compile_plan(
        spread(800), PlanSettings(CurriculumOptions("random", 10), batch_size=8, on_policy=0.5)
    )
    assert 0.45 < plan.on_policy.mean() < 0.55
    assert not compile_plan(spread(80), PlanSettings(batch_size=8)).on_policy.any()
    late = compile_plan(
        spread(800),
        PlanSettings(
            CurriculumOptions("random", 10),
            batch_size=8,
            on_policy={"kind": "steps", "values": [0.0, 1.0]},
        ),
    )
    assert (late.on_policy == (late.step_stage > 5)).all()


def test_files_give_a_plan_with_teachers_and_restarts_back(tmp_path):
    profile = spread(50)
    plan = compile_plan(
        profile,
        PlanSettings(
            CurriculumOptions("bands", 2, restart=True, passes=2),
            batch_size=4,
            teachers=TEACHERS,
            teacher_schedule="ladder",
            supervision="text",
            on_policy=0.3,
        ),
    )
    save_plan(tmp_path, plan, describe_plan(plan, profile, "mine"))
    again = load_plan(tmp_path)
    assert plan_fingerprint(again) == plan_fingerprint(plan)
    assert again.teachers == TEACHERS and (again.visit_teacher == plan.visit_teacher).all()
    assert (
        again.offsets == plan.offsets
    ).all() and again.restarts.tolist() == plan.restarts.tolist()


@pytest.mark.parametrize(
    ("kind", "stages", "options", "words"),
    [
        ("bands", 2, {"shares": [1.0]}, "one positive number for each of the 2 stages"),
        ("bands", 2, {"shares": [1.0, -1.0]}, "positive number"),
        ("bands", 50, {}, "Use fewer stages"),
        ("shrinking", 2, {"decay": "cosin"}, "Did you mean 'cosine'"),
        ("shrinking", 2, {"easy_share": 1.5}, "easy_share"),
        ("cosine_growth", 2, {"start": 1.5}, "start"),
    ],
)
def test_options_of_curricula_that_do_not_fit(kind, stages, options, words):
    with pytest.raises(ConfigError, match=words):
        compile_plan(
            spread(10), PlanSettings(CurriculumOptions(kind, stages, options=options), batch_size=2)
        )


def test_unknown_options_and_teacher_schedules():
    with pytest.raises(ConfigError, match=r"no option 'share'\. Did you mean 'shares'"):
        CurriculumOptions("bands", 2, options={"share": [1, 1]})
    with pytest.raises(ConfigError, match="Did you mean 'ladder'"):
        compile_plan(
            spread(10), PlanSettings(batch_size=2, teachers=TEACHERS, teacher_schedule="lader")
        )
    with pytest.raises(ConfigError, match="each of the 2 teachers"):
        compile_plan(
            spread(10),
            PlanSettings(
                batch_size=2,
                teachers=TEACHERS,
                teacher_schedule={"kind": "ladder", "shares": [1.0]},
            ),
        )
