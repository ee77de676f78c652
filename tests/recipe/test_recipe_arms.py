"""Controls: arms that share student and data with the main one, and cannot hide it."""

import pytest

from tutelage.errors import ConfigError
from tutelage.recipe import load_recipe, to_yaml

WHOLE = "student: {model: a}\nteacher: {model: b}\ndata: {train: c}\n"


def write(folder, text, name="mine.yaml"):
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ("cpd: {extends: kld}", "mine.yaml:6: the control 'cpd' has the name of the main arm"),
        ("x: {extends: embedded_cpd}", "mine.yaml:6: .*brings a student or data of its own"),
        ("x: {selection: {every: 2}}", "mine.yaml:6: the control 'x' may not change `selection`"),
        ("x: {output: elsewhere}", "mine.yaml:6: the control 'x' may not change `output`"),
        ("x: {seeds: {data: 1}}", "mine.yaml:6: the control 'x' may not change `seeds.data`"),
        ("x: {seeds: {teacher: 1}}", "mine.yaml:6: the control 'x' may not change `seeds.teach"),
        ("x: {student: {model: z}}", "mine.yaml:6: the control 'x' may not change `student`"),
        ("../x: {extends: kld}", "'../x' cannot name a folder"),
        ("'': {extends: kld}", "'' cannot name a folder"),
        ("'kld ': {extends: kld}", "'kld ' cannot name a folder"),
        ("teacher: {extends: kld}", "'teacher' cannot be told from 'teacher'"),
        ("student_before: {extends: kld}", "cannot be told from 'student_before'"),
        ("CPD: {extends: kld}", "'CPD' cannot be told from 'cpd'"),
        ("x: {extends: kldd}", "mine.yaml:6: there is no recipe 'kldd'. Did you mean 'kld'"),
        ("x: {extends: [kld]}", "mine.yaml:6: `extends` takes one name .*, not a list"),
        ("x: kld", "mine.yaml:6: controls.x: must be a mapping"),
        ("x: {training: {batch_size: a}}", "controls.x: .*mine.yaml:6: training.batch_size: must"),
    ],
)
def test_what_a_control_may_not_be(tmp_path, control, words):
    path = write(tmp_path, f"extends: cpd\n{WHOLE}controls:\n  {control}\n")
    with pytest.raises(ConfigError, match=words):
        load_recipe(path)


def test_a_control_that_distils_needs_a_teacher(tmp_path):
    text = "extends: sft\nstudent: {model: a}\ndata: {train: c}\ncontrols:\n  kld: {extends: kld}\n"
    with pytest.raises(ConfigError, match=r"mine.yaml:5: the control 'kld' distils, and there is"):
        load_recipe(write(tmp_path, text))


def test_a_name_with_a_dot_is_one_name(tmp_path):
    path = write(tmp_path, f"extends: cpd\n{WHOLE}controls:\n  lr-0.1: {{training: {{seed: 1}}}}\n")
    with pytest.raises(ConfigError, match=r"controls.lr-0.1: .*unknown key 'training.seed'"):
        load_recipe(path)
    path = write(tmp_path, f"extends: cpd\n{WHOLE}controls:\n  lr-0.1: {{seed: 1}}\n")
    assert load_recipe(path).arms["lr-0.1"].seed == 1
    path = write(tmp_path, f"extends: cpd\n{WHOLE}controls:\n  again: {{seeds: {{student: 1}}}}\n")
    assert load_recipe(path).arms["again"].all_seeds == {"data": 0, "teacher": 0, "student": 1}


def test_a_method_brings_its_own_difficulty_to_an_arm(tmp_path):
    path = write(
        tmp_path,
        f"extends: kld\n{WHOLE}difficulty: {{kind: response_length}}\n"
        "controls:\n  cpd: {extends: cpd}\n  sft: {extends: sft}\n",
    )
    main, cpd, sft = load_recipe(path).arms.values()
    assert cpd.difficulty.kind == "student_loss" and cpd.curriculum.kind == "calibrated"
    assert sft.difficulty == main.difficulty and main.difficulty.kind == "response_length"


def test_paths_of_a_control_are_found_beside_the_recipe(tmp_path, monkeypatch):
    write(tmp_path, "loss: {ce_weight: 0.25}\n", "method.yaml")
    path = write(
        tmp_path,
        f"extends: cpd\n{WHOLE}controls:\n  x: {{extends: method.yaml}}\n",
    )
    monkeypatch.chdir("/")
    loaded = load_recipe(path)
    assert loaded.arms["x"].loss.ce_weight == 0.25
    (tmp_path / "elsewhere").mkdir()
    again = load_recipe(write(tmp_path / "elsewhere", to_yaml(loaded), "resolved.yaml"))
    assert dict(again.arms) == dict(loaded.arms) and again.fingerprint == loaded.fingerprint


@pytest.mark.parametrize("name", ["rkl", "cpd_paper", "kld", "cpd"])
def test_the_main_arm_of_a_bare_method_has_its_own_name(name):
    given = ["student.model=a", "teacher.model=b", "data.train=c", "data.validation_share=0.1"]
    assert list(load_recipe(name, given).arms) == [name]


def test_the_main_arm_of_a_run_has_the_name_of_its_method(tmp_path):
    assert list(load_recipe(write(tmp_path, f"extends: rkl\n{WHOLE}")).arms) == ["rkl"]


def test_extends_takes_text(tmp_path):
    with pytest.raises(ConfigError, match="`extends` takes one name"):
        load_recipe(write(tmp_path, "extends: 3\n"))


def test_a_file_name_that_cannot_name_a_folder_is_softened(tmp_path):
    loaded = load_recipe(write(tmp_path, f"extends: cpd\n{WHOLE}", "_my (first) run.yaml"))
    assert loaded.recipe.name == "my -first- run"


def test_teacher_is_no_folder_and_empty_text_no_path(tmp_path, monkeypatch):
    (tmp_path / "TEACHER").mkdir()
    monkeypatch.chdir(tmp_path)
    student = load_recipe("smollm2_instruct", ["data.train=c", "data.test="]).recipe.student
    assert student.init_from == "TEACHER"
    data = load_recipe("smollm2_instruct", ["data.train=c", "data.test=''"]).recipe.data
    assert data.test == ""


def test_all_controls_are_named_at_once(tmp_path):
    text = (
        f"extends: cpd\n{WHOLE}curriculum: {{stages: 3, total_steps: 6}}\n"
        "controls:\n  kld: {extends: kld}\n  sft: {extends: sft}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_recipe(write(tmp_path, text))
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["controls.kld", "controls.sft"]
    assert all("set curriculum.stages to 6 or less" in line for line in lines)


def test_one_word_for_a_list_is_told_how_to_be_one(tmp_path):
    text = f"extends: cpd\n{WHOLE}training: {{report_to: wandb}}\n"
    with pytest.raises(
        ConfigError, match=r"must be a list, not the text 'wandb'. Write \[wandb\]."
    ):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize("method", ["kld", "sft", "cpd", "pocl", "clpd"])
def test_a_control_that_is_a_plain_method_has_nothing_of_the_others(method):
    """Of what later methods add each of these says that it has none."""
    main = {
        "extends": "kld_agree",
        "student": {"model": "s"},
        "teacher": {"model": "t"},
        "data": {"train": "d.jsonl"},
        "curriculum": {"weights": {"kind": "middle"}},
        "loss": {
            "second_divergence": {"kind": "reverse_kl"},
            "second_share": 0.5,
            "tokens": {"kind": "student_entropy"},
            "token_share": 0.5,
        },
        "controls": {"plain": {"extends": method}},
    }
    loaded = load_recipe(main)
    alone = load_recipe(method, partial=True).recipe
    assert loaded.recipe.loss.ce_trust == "agreed" and loaded.recipe.curriculum.weights is not None
    assert loaded.arms["plain"].loss == alone.loss
    assert loaded.arms["plain"].curriculum == alone.curriculum
