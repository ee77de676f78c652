"""How large a study fits into a span of time, and what tuning leaves."""

import pytest
from killing import make_models, small_recipe

from tutelage.errors import ConfigError
from tutelage.recipe import load_recipe
from tutelage.studies import tune as tuning
from tutelage.studies.load import load_study
from tutelage.studies.search import rung_steps, spent
from tutelage.studies.tune import AS_IS, fit


def test_more_time_is_more_seeds_and_more_learning_rates():
    budgets = (120, 200, 270, 300, 3600)
    sizes = [fit(seconds, 2, 220, 0.1, 5) for seconds in budgets]
    assert [(one.rates, one.seeds) for one in sizes] == [(3, 3), (3, 3), (3, 5), (5, 5), (5, 10)]
    assert sizes[0].updates < 220 and {one.updates for one in sizes[1:]} == {220}
    assert all(one.seconds <= budget for one, budget in zip(sizes, budgets, strict=True))


def test_runs_are_shorter_where_whole_ones_do_not_fit():
    fitted = fit(200, 1, 1000, 0.05, 5)
    assert (fitted.rates, fitted.seeds) == (3, 3) and 100 <= fitted.updates < fitted.whole == 1000
    # By hand: 16 trials in three rungs, then six final runs with what evaluating takes.
    rungs = rung_steps(fitted.updates, 3, 1 / 3)
    search = spent(rungs, [16, 6, 3]) * 0.05
    assert fitted.seconds == pytest.approx(search + 6 * fitted.updates * 0.05 * 1.4)
    assert fitted.seconds <= 200


def test_a_budget_that_can_tell_nothing_is_refused_with_what_would_do():
    with pytest.raises(ConfigError, match=r"takes about \d+ minutes. Give --budget more"):
        fit(30, 1, 10_000, 1.0, 5)


@pytest.fixture
def loaded(tmp_path):
    return load_recipe(
        "embedded_cpd", ["data.validation=50", f"output={tmp_path}", "curriculum.total_steps=30"]
    )


def test_the_recipe_as_it_is_races_methods_with_several_rates(loaded):
    base, _ = tuning._base(loaded)
    fitted = fit(3600, 2, 30, 0.1, 3)
    study = load_study(tuning._study(loaded, base, fitted, ("kld", "sft"), 2))
    trials = {cell.arm: [trial.trial for trial in study.trials(cell)] for cell in study.cells}
    assert trials[AS_IS] == [AS_IS]
    assert trials["kld"] == [f"kld, learning_rate {r}" for r in (0.001, 0.002, 0.004, 0.008, 0.016)]
    assert {*trials} == {AS_IS, "cpd", "kld", "sft"}
    assert {study.control_of(cell).arm for cell in study.cells} == {AS_IS}
    as_is = study.recipe(study.cells[0], {"student": 0})
    assert as_is["loss"]["student_share"] == {"kind": "shifted"}
    kld = study.recipe(study.trials(study.cells[2])[0], {"student": 0})
    assert kld["loss"]["ce_weight"] == 0 and kld["curriculum"]["kind"] == "random"


def test_the_method_of_the_recipe_is_tuned_as_the_recipe_has_it(tmp_path):
    changes = ["data.validation=50", f"output={tmp_path}", "loss.state_weight=1.5"]
    loaded = load_recipe("quickstart", changes)
    assert loaded.recipe.arm == "kld_states" in tuning.METHODS
    methods = tuning._others(loaded, tuning.METHODS)
    assert [*methods] == [name for name in tuning.METHODS if name != "kld_states"]
    base, _ = tuning._base(loaded)
    study = load_study(tuning._study(loaded, base, fit(3600, 2, 30, 0.1, 3), methods, 2))
    own = next(cell for cell in study.cells if cell.arm == "kld_states")
    recipe = study.recipe(study.trials(own)[0], {"student": 0})
    assert recipe["loss"]["state_weight"] == 1.5


def test_without_validation_data_nothing_could_decide():
    with pytest.raises(ConfigError, match=r"--set data\.validation=200"):
        tuning._check(load_recipe("embedded_cpd"), ("kld",))
    with pytest.raises(ConfigError, match="kdl"):
        tuning._check(load_recipe("embedded_cpd", ["data.validation=5"]), ("kdl",))


def test_hidden_states_are_tried_where_the_teacher_has_them():
    assert tuning._methods(load_recipe("embedded_cpd"))[0] == "kld_states"
    for changes in (["teacher.signal=topk"], ["teacher.signal=topk", "loss.ce_weight=1"]):
        assert "kld_states" not in tuning._methods(load_recipe("embedded_cpd", changes))
    assert "kld_states" not in tuning._methods(load_recipe("embedded_ladder"))


def test_the_second_pilot_trains_too(tmp_path):
    """A student that the first left in the cache would take no time at all."""
    make_models(tmp_path)
    told = small_recipe(tmp_path)
    recipe = {**told, "controls": {}, "curriculum": {"stages": 1, "passes": 1}}
    recipe["training"] = {**told["training"], "batch_size": 16, "micro_batch_size": 8}
    loaded = load_recipe(recipe)
    base, folder = tuning._base(loaded)
    for _ in range(2):
        updates, seconds = tuning._pilot(base, folder, loaded)
        assert updates <= 4 and seconds > 1e-3
    assert not (folder / "pilot").exists()
