"""A student and its optimizer are let go before the next one is made."""

import gc
import weakref

import pytest
from killing import make_models, small_recipe

from tutelage import run
from tutelage.pipeline.stages import train
from tutelage.training import DistillTrainer


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_two_students_are_in_training(tmp_path, monkeypatch, precision):
    """Whether difficulty is measured again, or another arm comes: what was trained is gone."""
    make_models(tmp_path)
    recipe = small_recipe(tmp_path, precision=precision)
    recipe["difficulty"] = {"kind": "student_loss", "refresh": 1}
    recipe["selection"] = {"metric": None}
    recipe["data"] = {**recipe["data"], "validation": 0, "test": 0}
    made, alive = [], []

    def seen(model, recipe):
        alive.append([one for one in made if one() is not None])
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr(train, "with_lora", seen)
    gc.disable()  # by itself it may come at any moment, or late
    try:
        run(recipe, run_dir=tmp_path / "run")
    finally:
        gc.enable()
    assert len(made) == 4  # three stages of the main arm, and the control
    assert alive == [[], [], [], []]


def test_a_trainer_is_gone_where_its_student_is_measured_and_saved(tmp_path, monkeypatch):
    make_models(tmp_path)
    recipe = small_recipe(tmp_path)
    recipe["difficulty"] = {"kind": "student_loss", "refresh": 1}
    recipe["controls"] = {}
    trainers, optimizers = weakref.WeakSet(), weakref.WeakSet()
    found, make = [], DistillTrainer.create_optimizer

    def making(self, *arguments):
        optimizer = make(self, *arguments)
        trainers.add(self)
        optimizers.add(optimizer)
        return optimizer

    def watched(function):
        def with_a_look(*arguments, **keywords):
            found.append((function.__name__, len(trainers), len(optimizers)))
            return function(*arguments, **keywords)

        return with_a_look

    monkeypatch.setattr(DistillTrainer, "create_optimizer", making)
    monkeypatch.setattr(train, "save_students", watched(train.save_students))
    measure = "tutelage.pipeline.stages.plan.write_profile"
    from tutelage.pipeline.stages.plan import write_profile

    monkeypatch.setattr(measure, watched(write_profile))
    gc.disable()
    try:
        run(recipe, run_dir=tmp_path / "run")
    finally:
        gc.enable()
    looked = ["write_profile", "write_profile", "save_students"]
    assert found == [(name, 0, 0) for name in looked]
