"""Any value under any key of a recipe is taken, or refused in one message: never a traceback."""

import math
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from tutelage.errors import ConfigError
from tutelage.families import table_of
from tutelage.recipe import load_recipe
from tutelage.recipe.schema import Recipe

VALUES = [
    math.nan,
    math.inf,
    -math.inf,
    -1,
    0,
    0.0,
    1e-30,
    1e30,
    1e308,
    10**30,
    10**5000,
    True,
    "text",
    "half \ud800",
    "nul \0",
    None,
    [],
    {},
    [[]],
    {"kind": []},
]
WHERE_IT_IS = {"teacher.finetune": {}, "training.lora": {}}


def sections(model: type[BaseModel], path: str = "", fixed: dict | None = None):
    """Dotted path, field and what must stand beside it, for every key of the schema."""
    for name, field in model.model_fields.items():
        where = f"{path}.{name}" if path else name
        models = list(_models(field.annotation))
        if name not in ("teachers", "controls"):
            yield where, field, fixed or {}
        for child in models if name != "teachers" else ():
            kind = get_args(child.model_fields["kind"].annotation) if path + name == "data" else ()
            yield from sections(child, where, {f"{where}.kind": kind[0]} if kind else fixed)


def _models(annotation: Any):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def nested(values: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *above, key = path.split(".")
        node = tree
        for part in above:
            node = node.setdefault(part, {})
        node[key] = value
    return tree


def is_taken(tree: dict[str, Any]) -> bool:
    """Whether a recipe is valid; a message must be one for a person."""
    try:
        load_recipe(tree, partial=True)
    except ConfigError as error:
        text = str(error)
        assert 10 < len(text) < 1500 and "Traceback" not in text and "pydantic" not in text
        text.encode("utf-8")
        return False
    return True


KEYS = {f"{path} {list(fixed.values())}": (path, fixed) for path, _, fixed in sections(Recipe)}


@pytest.mark.parametrize("key", KEYS)
def test_every_key_takes_or_refuses_every_value(key):
    path, fixed = KEYS[key]
    for value in VALUES:
        is_taken(nested({**fixed, path: value}))


def test_the_keys_are_all_there():
    paths = {path for path, _ in KEYS.values()}
    assert len(paths) > 100
    assert {"training.learning_rate", "training.lora.rank", "data.levels", "seed"} <= paths


PLACES = {
    "divergence": "loss.divergence",
    "target": "loss.target",
    "controller": "loss.adaptive",
    "text controller": "on_policy.adaptive",
    "teacher schedule": "teacher_schedule",
    "curriculum": "curriculum",
    "difficulty": "difficulty",
}
OPTIONS = [
    (family, kind, option)
    for family in (*PLACES, "metric")
    for kind, component in table_of(family).items()
    for option in component.options
]


@pytest.mark.parametrize(("family", "kind", "option"), OPTIONS)
def test_every_option_of_a_component_too(family, kind, option):
    for value in VALUES:
        if family == "metric":
            tree = {"evaluation": {"metrics": {kind: {option: value}}}}
        else:
            place = PLACES[family]
            tree = nested({f"{place}.kind": kind, f"{place}.{option}": value})
        taken = is_taken(tree)
        if isinstance(value, float) and not math.isfinite(value):
            assert not taken


KINDS = ("constant", "linear", "cosine", "steps", "join", "shifted", "capped", "paper", "none")
SCHEDULED = ("value", "start", "end", "values", "max", "schedules", "boundaries", "per", "grid")


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_of_a_schedule_too(kind):
    for option in SCHEDULED:
        for value in (math.nan, -1, 1e30, 1e308, 10**30, True, "text", None, [], {"kind": []}):
            spec = {"kind": kind, "start": 0.5, "end": 0.5, option: value}
            is_taken(nested({"loss.distill_temperature": spec}))
            is_taken(nested({"on_policy.fraction": {"kind": kind, option: [value]}}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("loss.divergence={kind: jsd, jsd_beta: 5}", "`jsd_beta` must lie strictly"),
        ("loss.divergence={kind: jsd, jsd_beta: .nan}", "must be a finite number, not nan"),
        ("loss.divergence={kind: skl, skew: 1}", "`skew` must lie in"),
        ("loss.divergence={kind: bdl, bdl_lambda: 0.5}", "`bdl_lambda` must lie in"),
        ("loss.divergence={kind: alpha_beta, ab_alpha: 1e30}", "nothing would be learned"),
        ("loss.adaptive={kind: taid, beta: 1}", "adaptive.beta: must be at least 0"),
        ("loss.adaptive={kind: taid, alpha: -1}", "loss.adaptive.alpha: must be between 0 and 1"),
        ("curriculum={kind: bands, stages: 2, shares: [1, 2, 3]}", "each of the 2 stages"),
        ("curriculum={kind: bands, stages: 2, shares: [1, -2]}", "one positive number"),
        ("teacher_schedule={kind: ladder, shares: [1, 0]}", "one positive number"),
        ("teacher_schedule={kind: ensemble, weights: [1, -1]}", "as many positive weights"),
        ("difficulty={kind: rank_fusion, of: [{kind: rouge_l}]}", "of: names at least two"),
        ("difficulty={kind: rank_fusion, of: [{kind: rouge}, {}]}", "Did you mean 'rouge_l'"),
        ("difficulty={kind: failure_rate, verifier: {kind: numbr}}", "Did you mean 'number'"),
        ("difficulty={kind: failure_rate, verifier: {kind: number}, samples: 0}", "between 1 and"),
        ("difficulty={kind: student_loss, reduce: median}", "difficulty.reduce: must be 'mean'"),
        ("loss.distill_temperature=1e30", "must stay between 0.001 and 1000"),
        ("on_policy.fraction=2", "on_policy.fraction: must stay between 0 and 1, and is 2"),
        ("training.adam_beta1=1.0", "training.adam_beta1: must be less than 1, not 1.0"),
        ("training.num_threads=100000000", "training.num_threads: must be 1,024 or less"),
        ("training.max_steps=1000000000000000000000000000000", "1,000,000,000 or less, not a"),
        ("curriculum.stages=1000000000", "curriculum.stages: must be 10,000 or less"),
        ("seed=-1", "seed: must be 0 or greater, not -1"),
        ("seed=4294967296", "seed: must be 4,294,967,295 or less"),
        ("evaluation.seeds=[3, 3]", "evaluation.seeds: a seed is there twice"),
        ("evaluation.sampling_temperature=1e-30", "0 .greedy. or at least 0.001"),
        ("data={kind: arithmetic, levels: [21]}", "Choose from 1 to 20"),
        ("data={kind: lists, levels: [7]}", "data.levels: .* Choose from 1 to 6"),
        ("data={kind: lists, lengths: [1, 4]}", "data.lengths: .* Choose from 2 to 9"),
        ("data={train: x, template: '{prompt.__class__}'}", "data.template: .* no name of a field"),
        ("data={train: x, template: '{prompt} }'}", "data.template: .*brace '}' at position 10"),
        ("supervision.prompt='{prompt[0]}'", "supervision.prompt: .* no name of a field"),
        ("supervision.prompt=step_by_stp", "supervision.prompt: .*Did you mean 'step_by_step'"),
        ("student.model=''", "student.model: must be a text that is not empty"),
        ("name=" + "n" * 400, "the name 'nnnnnnnnnnnnnnnnnnnn...' is too long"),
        ("seed=" + "9" * 5000, "a number is too long"),
        ("title=" + "[" * 100_000, "nested more than 40 deep"),
        ("a." * 100_000 + "b=1", "write a dotted key"),
        ("title=\udcff", "special characters|half of a character"),
        ('title="\\ud800"', r"\\ud800, which is half of a character"),
        ('title="\\0"', "NUL"),
    ],
)  # fmt: skip
def test_what_was_found_only_by_the_run(change, words):
    with pytest.raises(ConfigError, match=words) as error:
        load_recipe({}, [change], partial=True)
    assert len(str(error.value)) < 1500


def test_aliases_that_repeat_each_other_are_refused(tmp_path):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    with pytest.raises(
        ConfigError, match=r"bomb.yaml:\d+: more than 20,000 values, with all alias"
    ):
        load_recipe(path)


@pytest.mark.parametrize("text", ["x: " + "{a: " * 50_000, "- " * 50_000, "x: '" + "y" * 300_000])
def test_files_that_are_no_recipe(tmp_path, text):
    path = tmp_path / "deep.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"nested more than 40 deep|too many for a recipe"):
        load_recipe(path)


@pytest.mark.parametrize("name", ["n" * 400, "n" * 5000 + ".yaml", "/proc/self/mem/x.yaml", "a\0b"])
def test_names_that_no_recipe_has(name):
    with pytest.raises(ConfigError, match="There is no recipe"):
        load_recipe(name)


def test_long_and_odd_paths_are_names(tmp_path):
    assert load_recipe(
        {"student": {"model": "m" * 5000}, "data": {"train": "d" * 5000}}, partial=True
    )
    circle: dict = {}
    circle["a"] = circle
    with pytest.raises(ConfigError, match="nested more than 40 deep"):
        load_recipe(circle)
