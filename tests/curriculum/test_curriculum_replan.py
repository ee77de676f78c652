"""Plans made anew while training: as many steps and visits as planned, whatever was measured."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.curriculum import (
    CURRICULA,
    CurriculumOptions,
    PlanSettings,
    compile_plan,
    describe_plan,
    load_plan,
    plan_fingerprint,
    plan_folder,
    replan,
    save_plan,
)
from tutelage.curriculum.sampling import REMAINDERS
from tutelage.types import DifficultyProfile

VALUES = ("step_stage", "student_share", "distill_temperature", "lr_factor", "on_policy")


def spread(size, seed=0):
    scores = np.random.default_rng(seed).gamma(4 - seed % 3, 0.5, size)
    return DifficultyProfile(tuple(f"id{i:05d}" for i in range(size)), scores)


def subset(plan, profile, number, options):
    """Positions that a stage of these curricula may visit."""
    size = plan.stages[number - 1].num_examples
    order = profile.order
    kind = CURRICULA[options.kind]
    if options.kind in ("bands", "shrinking"):
        return set(range(len(profile)))
    return set((order[::-1] if kind.order == "hard_first" else order)[:size].tolist())


def visits_by_stage(plan):
    """How many visits each stage has, those included that are made in the next one's step."""
    return [round(stage.passes * stage.num_examples) for stage in plan.stages]


settings_of_plans = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(sorted(CURRICULA)),
        "stages": st.integers(2, 6),
        "size": st.integers(12, 90),
        "batch": st.integers(1, 17),
        "remainder": st.sampled_from(sorted(REMAINDERS)),
        "amount": st.sampled_from(
            [{}, {"passes": 0.5}, {"passes": 2.6}, {"iteration_ratio": 0.8}, {"total_steps": 31}]
        ),
        "restart": st.booleans(),
        "every": st.integers(1, 5),
    }
)


def made(choice):
    """Options and further arguments of a plan."""
    options = CurriculumOptions(
        choice["kind"],
        choice["stages"],
        remainder=choice["remainder"],
        restart=choice["restart"],
        **choice["amount"],
    )
    values = {
        "batch_size": choice["batch"],
        "student_share": {"kind": "shifted", "per": "step"},
        "distill_temperature": {"kind": "linear", "start": 1.0, "end": 2.0},
        "on_policy": 0.3,
        "seed": 4,
    }
    return options, values


@settings(deadline=None, max_examples=150)
@given(choice=settings_of_plans)
def test_a_run_makes_the_steps_and_visits_that_it_planned(choice):
    options, values = made(choice)
    first = plan = compile_plan(spread(choice["size"]), PlanSettings(options, **values))
    for done in range(choice["every"], choice["stages"], choice["every"]):
        profile = spread(choice["size"], seed=done)
        before, plan = plan, replan(plan, done, profile, PlanSettings(options, **values))
        assert (plan.offsets == first.offsets).all() and len(plan.visits) == len(first.visits)
        assert plan.total_steps == first.total_steps == sum(s.steps for s in plan.stages)
        assert min(stage.steps for stage in plan.stages) >= 1
        assert (np.diff(plan.step_stage) >= 0).all()
        assert plan.stages[:done] == before.stages[:done]
        kept = int((before.step_stage <= done).sum())
        for name in VALUES:
            assert (getattr(plan, name)[:kept] == getattr(before, name)[:kept]).all()
        # Of the steps that are left, those of stage done come first, then each stage's own.
        start = int(before.offsets[kept])
        carried = max(0, sum(visits_by_stage(before)[:done]) - start)
        if options.remainder not in ("carry", "trim") or options.total_steps:
            carried = 0
        assert (plan.visits[: start + carried] == before.visits[: start + carried]).all()
        begin = start + carried
        for stage in plan.stages[done:]:
            last = np.searchsorted(plan.step_stage, stage.stage, side="right")
            end = int(plan.offsets[last])
            mine = set(plan.visits[begin:end].tolist())
            assert mine <= subset(plan, profile, stage.stage, options)
            if carried or options.remainder in ("carry", "trim"):
                break  # the next stages begin within a step
            begin = end


@settings(deadline=None, max_examples=80)
@given(choice=settings_of_plans, scale=st.sampled_from([1.0, 0.25]))
def test_a_profile_of_the_same_order_changes_nothing(choice, scale):
    """Nothing that the student learned evenly: the plan is the one that was shown before."""
    options, values = made(choice)
    profile = spread(choice["size"])
    same = DifficultyProfile(profile.ids, profile.scores * scale)
    plan = first = compile_plan(profile, PlanSettings(options, **values))
    for done in range(choice["every"], choice["stages"], choice["every"]):
        plan = replan(plan, done, same, PlanSettings(options, **values))
        assert plan_fingerprint(plan) == plan_fingerprint(first)
    for now, then in zip(plan.stages, first.stages, strict=True):
        assert (now.steps, now.num_examples) == (then.steps, then.num_examples)
        assert now.passes == pytest.approx(then.passes)


@pytest.mark.parametrize("refresh", [1, 2, 3])
def test_every_visit_of_dakd_is_made(refresh):
    """Each epoch of a falling subset: what does not fill a batch opens the next one."""
    options = CurriculumOptions("shrinking", 5, options={"decay": "linear"})
    plan = first = compile_plan(spread(131), PlanSettings(options, batch_size=16))
    assert (len(first.visits), first.total_steps) == (393, 25)
    for done in range(refresh, 5, refresh):
        plan = replan(plan, done, spread(131, seed=done), PlanSettings(options, batch_size=16))
    assert (len(plan.visits), plan.total_steps) == (393, 25)
    sizes = [131, 105, 79, 52, 26]
    assert visits_by_stage(plan) == [stage.num_examples for stage in plan.stages] == sizes
    for start, size in zip(np.cumsum([0, *sizes]), sizes, strict=False):
        assert len(set(plan.visits[start : start + size].tolist())) == size


def test_a_calibrated_plan_keeps_its_length_when_its_subsets_grow():
    options = CurriculumOptions("calibrated", 4)
    first = compile_plan(spread(500), PlanSettings(options, batch_size=16))
    flat = DifficultyProfile(spread(500).ids, 5 + spread(500, seed=3).scores / 100)
    natural = compile_plan(flat, PlanSettings(options, batch_size=16))
    again = replan(first, 1, flat, PlanSettings(options, batch_size=16))
    assert natural.total_steps != first.total_steps == again.total_steps
    fresh = [(s.num_examples, s.mean_difficulty) for s in natural.stages[1:]]
    assert [(s.num_examples, s.mean_difficulty) for s in again.stages[1:]] == fresh
    # What is left is shared out as the new subsets ask.
    asked = np.asarray(visits_by_stage(natural)[1:]) / sum(visits_by_stage(natural)[1:])
    got = np.asarray(visits_by_stage(again)[1:]) / sum(visits_by_stage(again)[1:])
    assert np.abs(asked - got).max() < 16 / len(first.visits) * 2


def test_teachers_follow_the_new_stages():
    options = CurriculumOptions("bands", 4, passes=2)
    for supervision in ("logits", "text"):
        more = {
            "batch_size": 7,
            "teachers": ("weak", "strong"),
            "teacher_schedule": "ladder",
            "supervision": supervision,
        }
        first = compile_plan(spread(60), PlanSettings(options, **more))
        new = spread(60, seed=2)
        plan = replan(first, 1, new, PlanSettings(options, **more))
        if supervision == "logits":
            names = [plan.teacher_of(step) for step in range(plan.total_steps)]
            expected = ["weak" if s <= 2 else "strong" for s in plan.step_stage]
            assert names == expected
        else:
            # The rest of the first band keeps its teacher in the step that it opens.
            count = round(first.stages[0].passes * first.stages[0].num_examples)
            hard = set(new.order[30:].tolist())
            assert not plan.visit_teacher[:count].any()
            for position, teacher in zip(
                plan.visits[count:], plan.visit_teacher[count:], strict=True
            ):
                assert teacher == (int(position) in hard)


def test_the_plan_of_an_arm_is_the_last_one_made(tmp_path):
    profile = spread(40)
    plan = compile_plan(profile, PlanSettings(CurriculumOptions("calibrated", 12), batch_size=2))
    for name in ("plan", "replanned/after_stage_2", "replanned/after_stage_10"):
        (tmp_path / name).mkdir(parents=True)
        save_plan(tmp_path / name, plan, describe_plan(plan, profile, name))
        assert plan_folder(tmp_path) == tmp_path / name
        assert load_plan(plan_folder(tmp_path)).ids == plan.ids
    # What a killed process left half-made is no plan.
    (tmp_path / "replanned" / "after_stage_11").mkdir()
    assert plan_folder(tmp_path).name == "after_stage_10"
