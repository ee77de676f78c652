"""The resolved recipe as text, and the YAML underneath: what is written is what is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.curriculum import CURRICULA
from tutelage.errors import ConfigError
from tutelage.recipe import controls_text, load_recipe, to_yaml
from tutelage.recipe.explain import _scalar
from tutelage.recipe.merge import merge
from tutelage.recipe.nodes import from_value, parse

PRINTABLE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


def tree(text):
    return parse(text, "file.yaml")


@given(PRINTABLE)
def test_any_text_is_read_back_as_it_was(value):
    line = _scalar(value)
    assert "\n" not in line
    assert tree(f"key: {line}  # where from").plain == {"key": value}


@pytest.mark.parametrize("value", ["1e-4", "012", "no", "null", "~", "1:30", "a: b", "# c", "a\nb"])
def test_text_that_looks_like_something_else_stays_text(value):
    assert tree(f"key: {_scalar(value)}").plain == {"key": value}


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.booleans()))
def test_numbers_are_read_back_with_their_type(value):
    read = tree(f"key: {_scalar(value)}").plain["key"]
    assert read == value and type(read) is type(value)


def test_odd_titles_survive_the_round_trip(tmp_path):
    title = "1e-4 # 'quoted' \"twice\": \u00e9\u4e2d\n\tnext line"
    loaded = load_recipe({"extends": "sft", "title": title}, partial=True)
    path = tmp_path / "resolved.yaml"
    path.write_text(to_yaml(loaded), encoding="utf-8")
    assert load_recipe(str(path), partial=True).recipe == loaded.recipe


def test_every_value_says_where_it_came_from():
    lines = to_yaml(load_recipe("embedded_cpd", ["training.learning_rate=1e-3"])).splitlines()
    values = [line for line in lines if not line.rstrip().endswith(":")]
    assert all("  # " in line for line in values)
    (rate,) = [line for line in lines if line.strip().startswith("learning_rate: 0.001")]
    assert rate.endswith("# --set")


def test_what_controls_change_is_said_resolved(tmp_path):
    controls = {
        "plain": {"extends": "kld"},
        "jsd": {"loss": {"divergence": {"kind": "jsd", "jsd_beta": 0.2}}},
        "same": {},
    }
    loaded = load_recipe({"extends": "embedded_cpd", "controls": controls})
    text = controls_text(loaded)
    head, *lines = text.splitlines()
    assert head == (
        "# What each control changes, resolved; in brackets what cpd has, whose number of updates"
        " all make:"
    )
    # Of the three that `plain` inherits, none stands in its own words.
    assert lines[:3] == [
        "# sft:",
        "#   curriculum.kind: random  (calibrated)",
        "#   loss.ce_weight: 1.0  (0.3)",
    ]
    plain = lines[lines.index("# plain:") + 1 : lines.index("# jsd:")]
    assert "#   curriculum.kind: random  (calibrated)" in plain
    jsd = lines[lines.index("# jsd:") + 1 : lines.index("# same: nothing")]
    assert jsd == [
        "#   loss.divergence.kind: jsd  (forward_kl)",
        "#   loss.divergence.jsd_beta: 0.2  (-)",
    ]
    path = tmp_path / "shown.yaml"
    path.write_text(to_yaml(loaded) + text)
    assert load_recipe(path).fingerprint == loaded.fingerprint
    assert controls_text(load_recipe("embedded_cpd", ["controls={}"])) == ""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("curriculum.passes=2", "curriculum.total_steps=9"),
        ("curriculum={total_steps: 9}", "curriculum.iteration_ratio=0.5"),
        ("student.layers=2", "student.model=a"),
        ("teacher.model=a", "teachers=[{name: b, model: b}]"),
    ],
)
def test_two_changes_by_hand_do_not_undo_each_other(first, second):
    with pytest.raises(ConfigError, match=r"--set \S+ and --set \S+ answer the same question"):
        load_recipe("embedded_cpd", [first, second])


def test_the_last_change_by_hand_to_one_key_counts():
    def course(*changes):
        return load_recipe("embedded_cpd", changes).recipe.curriculum

    assert course("curriculum.passes=2", "curriculum.passes=3").passes == 3
    again = course("curriculum.passes=2", "curriculum.passes=null", "curriculum.total_steps=30")
    assert (again.passes, again.total_steps) == (None, 30)
    assert course("curriculum.total_steps=30").total_steps == 30


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-1.5E+3", -1500.0),
        (".5", 0.5),
        ("012", 12),
        ("no", "no"),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("", None),
        ("~", None),
        ("'12'", "12"),
    ],
)
def test_scalars_hold_no_surprises(text, value):
    read = tree(f"key: {text}").plain["key"]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize("text", ["!!python/name:os.system x", "!!python/tuple [1]", "!x {}"])
def test_tags_are_refused_on_every_kind_of_value(text):
    with pytest.raises(ConfigError, match=r"file.yaml:1: the tag .* is not allowed"):
        tree(f"a: {text}")


def test_an_alias_that_contains_itself_is_refused():
    with pytest.raises(ConfigError, match="contains itself"):
        tree("a: &x [*x]")


def merged(base, over, key="section"):
    return merge(from_value(base, "base"), from_value(over, "over"), key).plain


def test_mappings_merge_and_everything_else_replaces():
    base = {"a": {"b": 1, "c": 2}, "d": [1, 2], "e": 5}
    assert merged(base, {"a": {"b": 3}, "d": [4], "e": None}) == {
        "a": {"b": 3, "c": 2}, "d": [4], "e": None,
    }  # fmt: skip
    assert merged({"a": {"b": 1}}, {"a": 7}) == {"a": 7}


def test_another_kind_brings_its_own_options():
    base = {"kind": "steps", "values": [1, 2]}
    assert merged(base, {"kind": "linear", "start": 0}) == {"kind": "linear", "start": 0}
    assert merged(base, {"kind": "steps", "per": "step"}) == base | {"per": "step"}


def test_a_section_without_kind_has_the_default_one():
    given_base = {"validation_share": 0.1}
    files = {"kind": "files", "train": "x"}
    assert merged(given_base, files, "data") == given_base | files
    arithmetic = {"kind": "arithmetic", "train": 5}
    assert merged({"train": "x", "template": "chat"}, arithmetic, "data") == arithmetic


def test_a_curriculum_keeps_what_all_kinds_share():
    base = {"kind": "calibrated", "stages": 7, "passes": 2, "min_examples": 3}
    assert merged(base, {"kind": "random"}, "curriculum") == {"kind": "random", "stages": 7}


def test_another_kind_of_curriculum_makes_the_options_of_the_first_void():
    for kind, row in CURRICULA.items():
        other = "baby_steps" if kind == "random" else "random"
        base = {"kind": kind, "stages": 3} | dict.fromkeys(row.options, 1)
        assert merged(base, {"kind": other}, "curriculum") == {"kind": other, "stages": 3}
    misspelt = {"kind": "bands", "shers": [1, 2]}
    assert "shers" in merged(misspelt, {"kind": "random"}, "curriculum"), "it is still to be told"


def test_the_last_word_on_the_number_of_updates_counts():
    base = {"stages": 7, "passes": 2}
    assert merged(base, {"total_steps": 9}, "curriculum") == {"stages": 7, "total_steps": 9}
    assert merged(base, {"total_steps": None}, "curriculum") == base | {"total_steps": None}


def test_a_student_has_one_source():
    base = {"init_from": "TEACHER", "layers": 10}
    assert merged(base, {"model": "a"}, "student") == {"model": "a"}
    assert merged({"model": "a"}, base, "student") == base
