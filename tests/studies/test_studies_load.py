"""A study file becomes cells, each a whole recipe; what is wrong with it is said with its line."""

import pytest
import yaml

from tutelage.errors import ConfigError
from tutelage.studies.load import load_study

SMALL = """
base: embedded_cpd
set: {curriculum: {stages: 5}, evaluation: {suites: [test]}, data: {validation: 50}}
arms:
  kld: {extends: kld, loss: {ce_weight: 0}}
  cpd: {extends: cpd}
equal: {updates: 30}
"""


def written(tmp_path, text, **more):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(text), **more}, sort_keys=False))
    return path


def test_layers_of_a_cell(tmp_path):
    factors = {"training.learning_rate": [1e-3, 2e-3]}
    loaded = load_study(written(tmp_path, SMALL, factors=factors))
    assert [cell.name for cell in loaded.cells] == [
        "kld, learning_rate 0.001",
        "kld, learning_rate 0.002",
        "cpd, learning_rate 0.001",
        "cpd, learning_rate 0.002",
    ]
    kld = loaded.recipe(loaded.cells[1], {"student": 7}, {"curriculum.total_steps": 30})
    staged = {"kind": "random", "stages": 5, "total_steps": 30}
    assert kld["curriculum"].items() >= staged.items()
    assert kld["loss"]["ce_weight"] == 0  # the arm's own word counts more than its method's
    assert kld["training"]["learning_rate"] == 2e-3 and kld["training"]["batch_size"] == 64
    assert kld["seeds"] == {"student": 7} and kld["arm"] == "kld" and "controls" not in kld
    cpd = loaded.recipe(loaded.cells[2], {"student": 7}, {"curriculum.total_steps": 30})
    assert "passes" not in cpd["curriculum"]  # updates are given, and passes would be too
    assert cpd["loss"]["student_share"] == {"kind": "shifted"}


def test_a_control_has_the_levels_of_the_cell_but_for_the_fixed_ones(tmp_path):
    factors = {
        "training.learning_rate": [1e-3, 2e-3],
        "loss.distill_temperature": {
            "one": 1.0,
            "rising": {"kind": "linear", "start": 1, "end": 2},
        },
    }
    loaded = load_study(
        written(
            tmp_path, SMALL, factors=factors, control={"arm": "kld", "training.learning_rate": 2e-3}
        )
    )
    cells = {cell.name: cell for cell in loaded.cells}
    cell = cells["cpd, learning_rate 0.001, distill_temperature rising"]
    assert loaded.control_of(cell).name == "kld, learning_rate 0.002, distill_temperature rising"
    alone = load_study(written(tmp_path, SMALL, arms={"kld": {"extends": "kld"}}, factors=factors))
    assert {alone.control_of(cell).name for cell in alone.cells} == {alone.cells[0].name}


def test_a_level_may_be_several_changes(tmp_path):
    factors = {
        "labels": {"clean": {"data": {"label_noise": 0.0}}, "noisy": {"data": {"label_noise": 0.4}}}
    }
    loaded = load_study(written(tmp_path, SMALL, factors=factors))
    recipe = loaded.recipe(loaded.cells[0], {"student": 0})
    assert recipe["data"]["label_noise"] == 0.0 and recipe["data"]["train"] == 1000


def test_a_level_is_no_method(tmp_path):
    """It would be laid over the arm without what it extends: one result under several names."""
    factors = {"method": {"one": {"extends": "rkl"}, "other": {"extends": "skl"}}}
    with pytest.raises(ConfigError, match="Write an arm for each method"):
        load_study(written(tmp_path, SMALL, factors=factors))
    with pytest.raises(ConfigError, match="a method is what an arm extends"):
        load_study(written(tmp_path, SMALL, set={"extends": "rkl"}))


def test_seeds_of_data_and_teacher_walk_along(tmp_path):
    seeds = {"student": 3, "data": [5, 6, 7], "teacher": [9]}
    loaded = load_study(written(tmp_path, SMALL, seeds=seeds))
    assert [dict(one) for one in loaded.study.seeds.all] == [
        {"student": 0, "teacher": 9, "data": 5},
        {"student": 1, "teacher": 9, "data": 6},
        {"student": 2, "teacher": 9, "data": 7},
    ]
    recipe = loaded.recipe(loaded.cells[0], dict(loaded.study.seeds.all[1]))
    assert recipe["data"]["data_seed"] == 6  # the embedded data are made from a seed of their own
    assert load_study(written(tmp_path, SMALL, seeds=2)).study.seeds.student == [0, 1]


def test_trials_are_the_arms_own_where_they_have_some(tmp_path):
    search = {
        "factors": {"training.learning_rate": [1e-3, 2e-3, 4e-3]},
        "arms": {"cpd": {"training.learning_rate": [1e-3], "curriculum.stages": [4, 5]}},
    }
    loaded = load_study(written(tmp_path, SMALL, search=search))
    trials = {cell.arm: [trial.trial for trial in loaded.trials(cell)] for cell in loaded.cells}
    assert len(trials["kld"]) == 3
    assert trials["cpd"] == [
        "cpd, learning_rate 0.001, stages 4",
        "cpd, learning_rate 0.001, stages 5",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": {}}, "arms: must be"),
        ({"colour": 1}, "unknown key 'colour'"),
        ({"control": "rkl"}, "arm as the study's control 'rkl'"),
        ({"factors": {"training.learning_rate": []}}, "needs a list of different values"),
        ({"factors": {"training.learning_rate": [1, 1]}}, "needs a list of different values"),
        ({"factors": {"training.learning_rat": [1e-3]}}, "learning_rat"),
        ({"factors": {"warm": {"a": 3}}}, "each of its levels must be a mapping"),
        ({"arms": {"kld": {"extends": "embedded_cpd"}}}, "brings a student or data of its own"),
        ({"arms": {"kld": {"extends": "kdl"}}}, "no recipe 'kdl'"),
        ({"arms": {"../kld": {"extends": "kld"}}}, "cannot name a folder"),
        ({"seeds": {"student": 3, "data": [1, 2]}}, "has 2 seeds, and `student` 3"),
        ({"search": {"factors": {}, "seeds": [0]}}, "is a seed of the final runs too"),
        ({"search": {"factors": {}, "arms": {"x": {}}}}, "is no arm of the study"),
        ({"search": {"factors": {"training.learning_rate": [1e-3]}, "measure": "bleu"}}, "bleu"),
        ({"equal": {"by": "dollars"}}, "equal.by: must be"),
        ({"base": "quickstrat"}, "quickstrat"),
    ],
)
def test_a_mistake_is_one_message(tmp_path, change, message):
    with pytest.raises(ConfigError) as error:
        load_study(written(tmp_path, SMALL, **change))
    assert message in str(error.value)


def test_no_file_and_no_study(tmp_path):
    with pytest.raises(ConfigError, match="no study file"):
        load_study(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match="holds no study"):
        load_study(tmp_path / "list.yaml")
