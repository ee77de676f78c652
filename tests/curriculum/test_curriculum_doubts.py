"""A profile that means nothing is said to mean nothing, with the way out."""

import math

import numpy as np
import pytest

from tutelage.curriculum import (
    CURRICULA,
    CurriculumOptions,
    PlanSettings,
    compile_plan,
    describe_plan,
)
from tutelage.curriculum.doubts import profile_doubts
from tutelage.types import DifficultyProfile

VOCAB = 49_152


def warnings_of(scores, kind="calibrated", stages=20, batch=16, losses=None, **more):
    profile = DifficultyProfile(tuple(f"id{i:05d}" for i in range(len(scores))), scores)
    plan = compile_plan(
        profile, PlanSettings(CurriculumOptions(kind, stages), batch_size=batch, **more)
    )
    doubts = profile_doubts(plan, profile, losses, VOCAB)
    described = describe_plan(plan, profile, "mine", losses=losses, vocab_size=VOCAB)
    assert described["warnings"][: len(doubts)] == doubts
    return doubts


HEALTHY = np.random.default_rng(0).gamma(4, 0.5, 11_435)
CUT = np.random.default_rng(0).normal(18.5, 1.0, 400)
"""Of a student of some layers of its teacher: worse than chance, and all alike."""


@pytest.mark.parametrize("kind", sorted(CURRICULA))
def test_a_healthy_profile_is_not_doubted(kind):
    assert warnings_of(HEALTHY, kind, losses={"student": 2.0, "teacher": 1.5}) == []


def test_a_cut_student_is_to_learn_first():
    guess, same = warnings_of(CUT, losses={"student": 18.5})
    assert "18.5 nats" in guess and "49,152 tokens has 10.8" in guess
    assert guess.endswith("--set student.finetune.epochs=1")
    assert same.startswith("Stages 1 to 17 (") and "the same 16 examples" in same
    assert same.endswith("--set curriculum.kind=calibrated_anchored")
    # And that helps.
    for kind, doubted in (("calibrated", True), ("calibrated_anchored", False)):
        texts = warnings_of(CUT, kind, stages=8, batch=8)
        assert any(text.startswith("Stages") for text in texts) == doubted
    assert warnings_of(CUT, "random", losses={"student": 18.5}) == []


@pytest.mark.parametrize("above", [-1e-6, 0.0])
def test_a_uniform_guess_is_the_line(above):
    texts = warnings_of(HEALTHY, losses={"student": math.log(VOCAB) + above})
    assert bool(texts) == (above == 0.0)


def test_scores_without_spread():
    (text,) = warnings_of(np.random.default_rng(0).normal(5, 0.05, 400), "baby_steps", 4)
    assert "Difficulty hardly varies" in text and "curriculum.kind=random" in text
    failures = np.where(np.arange(400) < 230, 1.0, np.linspace(0, 0.9, 400))
    (text,) = warnings_of(failures, "calibrated_anchored", 4)
    assert "230 of 400 examples have the same difficulty, 1:" in text
    assert warnings_of(failures, "random", 4) == []


def test_stages_without_examples_of_their_own():
    (text,) = warnings_of(np.linspace(1, 5, 4), "baby_steps", 16, batch=1)
    assert "Stages 4 to 16" in text and "--set curriculum.stages=" in text


@pytest.mark.parametrize(("teacher", "warned"), [(2.2, True), (2.0, True), (1.9, False)])
def test_a_teacher_that_is_worse_than_its_student(teacher, warned):
    losses = {"student": 2.0, "teacher": teacher}
    for kind in ("calibrated", "random"):
        texts = warnings_of(HEALTHY, kind, losses=losses)
        assert [f"{teacher:.2f} nats" in text for text in texts] == [True] * warned
        assert not warned or "--set teacher.finetune.epochs=1" in texts[0]
    assert warnings_of(HEALTHY, losses={"teacher": teacher}) == []
    # Nobody is taught by it here.
    assert warnings_of(HEALTHY, "random", losses=losses, ce_weight=1.0) == []
