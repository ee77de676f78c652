"""Recipes: merging, origins, fingerprints, and one clear message for every mistake."""

import pytest
import yaml

from tutelage.errors import ConfigError
from tutelage.recipe import list_recipes, load_recipe, shipped, to_yaml

DATA = ["data.train=answers.jsonl"]


def write(folder, text, name="mine.yaml"):
    path = folder / name
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_recipe_loads(name):
    loaded = load_recipe(name, partial=True)
    assert loaded.recipe.name == name
    assert loaded.recipe.title


@pytest.mark.parametrize("name", sorted(shipped()))
def test_the_explained_recipe_is_the_recipe(name, tmp_path):
    loaded = load_recipe(name, partial=True)
    text = to_yaml(loaded)
    again = load_recipe(write(tmp_path, text), partial=True)
    assert again.recipe == loaded.recipe
    assert again.fingerprint == loaded.fingerprint
    assert dict(again.arms) == dict(loaded.arms)


def test_listing_tells_methods_from_runs():
    kinds = {info.name: info.kind for info in list_recipes()}
    assert kinds["cpd"] == "method" and kinds["quickstart"] == "run"


def test_layers_and_origins(tmp_path):
    path = write(
        tmp_path,
        "extends: cpd\n"
        "student: {model: small}\n"
        "teacher: {model: big}\n"
        "data: {train: answers.jsonl}\n"
        "loss:\n"
        "  ce_weight: 0.5\n",
    )
    loaded = load_recipe(path, ["training.learning_rate=1e-3", "seed=4"])
    recipe, origins = loaded.recipe, loaded.origins
    assert recipe.loss.ce_weight == 0.5 and origins["loss.ce_weight"].endswith("mine.yaml:6")
    assert recipe.loss.student_share == {"kind": "shifted"}
    assert origins["loss.student_share.kind"].startswith("recipes/cpd.yaml:")
    assert recipe.training.learning_rate == 1e-3
    assert origins["training.learning_rate"] == origins["seed"] == "--set"
    assert list(loaded.arms) == ["cpd"]
    lines = to_yaml(loaded).splitlines()
    assert any(line.startswith("seed: 4") and line.endswith("# --set") for line in lines)
    assert any("micro_batch_size: 8" in line and "# default" in line for line in lines)


def test_another_kind_replaces_the_options_of_the_first(tmp_path):
    loaded = load_recipe(
        "cpd", ["loss.student_share={kind: linear, start: 0, end: 0.5}"], partial=True
    )
    assert loaded.recipe.loss.student_share == {"kind": "linear", "start": 0, "end": 0.5}
    loaded = load_recipe("cpd", ["curriculum.kind=random"], partial=True)
    assert loaded.recipe.curriculum.passes is None


def test_controls_are_arms_of_the_same_student_and_data():
    loaded = load_recipe("embedded_cpd")
    assert list(loaded.arms) == ["cpd", "sft", "kld"]
    sft, cpd = loaded.arms["sft"], loaded.arms["cpd"]
    assert sft.loss.ce_weight == 1.0 and sft.curriculum.kind == "random"
    assert sft.data == cpd.data and sft.student == cpd.student
    assert sft.training.batch_size == cpd.training.batch_size


def test_an_empty_mapping_clears():
    assert list(load_recipe("embedded_cpd", ["controls={}"]).arms) == ["cpd"]


def test_fingerprint_follows_results_only():
    base = load_recipe("embedded_cpd").fingerprint
    for change in ("output=elsewhere", "training.log_every=3", "title=Other"):
        assert load_recipe("embedded_cpd", [change]).fingerprint == base
    for change in ("seed=1", "training.learning_rate=1e-3", "controls.sft.seed=3"):
        assert load_recipe("embedded_cpd", [change]).fingerprint != base
    own = ["on_policy.fraction=0.5"]
    quiet = load_recipe("embedded_cpd", [*own, "on_policy.alarms={repetition: null, entropy: 0.1}"])
    assert quiet.fingerprint == load_recipe("embedded_cpd", own).fingerprint != base
    assert (
        load_recipe("embedded_cpd", [*own, "on_policy.top_p=0.9"]).fingerprint != quiet.fingerprint
    )


def test_seeds_default_to_the_seed():
    def loaded(*changes):
        return load_recipe("embedded_cpd", changes)

    assert loaded("seed=3").recipe.all_seeds == {"data": 3, "teacher": 3, "student": 3}
    one = loaded("seed=3", "seeds.student=5")
    assert one.recipe.all_seeds == {"data": 3, "teacher": 3, "student": 5}
    again = load_recipe(yaml.safe_load(to_yaml(one)))
    assert again.recipe == one.recipe and again.fingerprint == one.fingerprint
    lines = to_yaml(one).splitlines()
    assert any(line.startswith("  teacher: null") and "# as seed: 3" in line for line in lines)
    assert any(line.startswith("  student: 5") and "# --set" in line for line in lines)
    # What counts is which numbers there are, however they were given.
    every = [f"seeds.{job}=3" for job in ("data", "teacher", "student")]
    assert loaded(*every).fingerprint == loaded("seed=3").fingerprint != one.fingerprint
    assert loaded("seed=3", "seeds.student=null").fingerprint == loaded("seed=3").fingerprint


def test_what_a_run_asks_of_a_bare_method_is_refused_in_words():
    recipe = load_recipe("cpd", partial=True).recipe
    for section in ("student", "data"):
        with pytest.raises(ConfigError, match=f"lacks `{section}`, which a run needs"):
            getattr(recipe, f"{section}_section")


def test_paths_are_found_beside_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "answers.jsonl").write_text("{}\n")
    path = write(
        tmp_path,
        "extends: sft\nstudent: {model: org/small}\n"
        "data: {train: answers.jsonl, test: gone.jsonl}\n",
    )
    monkeypatch.chdir("/")
    data = load_recipe(path).recipe.data
    assert data.train == str(tmp_path / "answers.jsonl")
    assert data.test == "gone.jsonl"


def test_numbers_with_exponents_are_numbers():
    assert load_recipe("cpd", ["training.learning_rate=1e-4"], partial=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "extends: cpd\nstudnt: {model: x}\n",
            "mine.yaml:2: unknown key 'studnt'. Did you mean 'student'",
        ),
        (
            "extends: cpd\ntraining:\n  learning_rte: 1\n",
            "mine.yaml:3: unknown key 'training.learning_rte'",
        ),
        (
            "extends: cpd\ntraining:\n  learning_rate: fast\n",
            "mine.yaml:3: training.learning_rate: .*number",
        ),
        (
            "extends: cpd\ntraining: {batch_size: 0}\n",
            "mine.yaml:2: training.batch_size: .*greater",
        ),
        ("extends: cpdd\n", "mine.yaml:1: there is no recipe 'cpdd'. Did you mean 'cpd'"),
        ("extends: mine.yaml\n", "in a circle"),
        ("extends: [cpd\nseed: 1\n", "mine.yaml:2: this is not valid YAML"),
        ("seed: 1\nseed: 2\n", "mine.yaml:2: the key 'seed' occurs twice"),
        ("- cpd\n", "holds no recipe"),
        ("extends: cpd\ndata: {kind: fils}\n", "Did you mean 'files'"),
        ("extends: cpd\nloss: {divergence: {kind: forward_kll}}\n", "Did you mean 'forward_kl'"),
        ("extends: cpd\nloss: {divergence: {kind: forward_kl, beta: 1}}\n", "no option 'beta'"),
        ("extends: cpd\nloss: {student_share: {kind: shiftd}}\n", "Did you mean 'shifted'"),
        ("extends: cpd\ncurriculum: {passes: 1, total_steps: 30}\n", "give one of"),
        ("extends: cpd\nstudent: {model: a, init_from: b}\n", "exactly one of"),
        ("extends: cpd\nstudent: {model: a, layers: 3}\n", "goes with `init_from`"),
        ("extends: cpd\nselection: {metric: bleu}\n", "not among evaluation.metrics"),
        ("extends: cpd\nevaluation: {metrics: {exact: {}}}\n", "Unknown metric 'exact'"),
        (
            "extends: cpd\nloss: {ce_weight: {kind: steps, values: [0.3, 0.1]}}\n",
            "2 values for 20 stages",
        ),
        (
            "extends: embedded_cpd\ncontrols:\n  sft:\n    loss: {ce: 1}\n",
            "controls.sft: .*mine.yaml:4: unknown key 'loss.ce'",
        ),
        (
            "extends: embedded_cpd\ncontrols:\n  other:\n    data: {train: 3}\n",
            "mine.yaml:4: the control 'other' may not change `data`",
        ),
    ],
)
def test_mistakes_are_named_with_file_and_line(tmp_path, text, words):
    with pytest.raises(ConfigError, match=words):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.learning_rte=1", "--set: unknown key 'training.learning_rte'"),
        ("training.learning_rate", "dotted key"),
        ("=3", "dotted key"),
        ("loss.ce_weight=[1", "not valid YAML"),
    ],
)
def test_mistakes_in_set(override, words):
    with pytest.raises(ConfigError, match=words):
        load_recipe("embedded_cpd", [override])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quickstrt", "Did you mean 'quickstart'"),
        ("nowhere.yaml", "no recipe file 'nowhere.yaml'"),
        ("cpd", "lacks student.model, teacher.model, data.train"),
        ("sft", "lacks student.model, data.train"),
        ("smollm2_instruct", "lacks data.train"),
    ],
)
def test_what_is_not_there_is_named(name, words):
    with pytest.raises(ConfigError, match=words):
        load_recipe(name)


def test_tags_that_ask_for_objects_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="tag"):
        load_recipe(write(tmp_path, "seed: !!python/object:os.system x\n"))


def test_a_mapping_is_a_recipe_too():
    recipe = yaml.safe_load("{extends: sft, student: {model: a}, data: {train: b}, seed: 3}")
    assert load_recipe(recipe).recipe.seed == 3
