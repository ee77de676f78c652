"""Words that people write, and what they mean here."""

import pytest

from tutelage.errors import ConfigError
from tutelage.recipe import load_recipe, to_yaml


def loaded(*changes):
    return load_recipe("sft", ["student.model=a", "data.train=b", *changes])


@pytest.mark.parametrize(
    ("given", "metrics"),
    [
        ("[rouge_l, exact_match]", {"rouge_l": {}, "exact_match": {}}),
        ("[{exact_match: {after: '#'}}, rouge_l]", {"exact_match": {"after": "#"}, "rouge_l": {}}),
        ("{rouge_l: {}}", {"rouge_l": {}}),
        ("exact_match", {"exact_match": {}}),
    ],
)
def test_metrics_may_be_a_list(given, metrics):
    recipe = loaded(f"evaluation.metrics={given}").recipe
    assert dict(recipe.evaluation.metrics) == metrics
    assert list(recipe.evaluation.metrics) == list(metrics)  # the first one leads


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("evaluation.metrics=[rouge_l, rouge_l]", "the metric 'rouge_l' is there twice"),
        ("evaluation.metrics=[3]", "a list of metrics holds names, or {name: options}"),
        ("evaluation.metrics=[rougel]", "Unknown metric 'rougel'. Did you mean 'rouge_l'"),
        ("evaluation.metrics=[]", "name at least one metric"),
        ("evaluation.precision=fp16", "evaluation.precision: must be 'float32' or 'bfloat16'"),
        ("data.columns={promt: x}", "data.columns.promt: .* Did you mean 'prompt'"),
        ("data.columns={prompt: 3}", "data.columns.prompt: must be text, not 3"),
    ],
)
def test_words_that_mean_nothing(change, words):
    with pytest.raises(ConfigError, match=words):
        loaded(change)


PRECISIONS = (
    "training.precision",
    "evaluation.precision",
    "supervision.precision",
    "student.dtype",
)


@pytest.mark.parametrize("path", PRECISIONS)
@pytest.mark.parametrize(("short", "long"), [("bf16", "bfloat16"), ("fp32", "float32")])
def test_short_names_of_precisions(path, short, long):
    found = loaded(f"{path}={short}")
    section, _, key = path.partition(".")
    assert getattr(getattr(found.recipe, section), key) == long
    assert found.fingerprint == loaded(f"{path}={long}").fingerprint
    assert any(
        line.strip().startswith(f"{key}: {long}") and line.endswith("# --set")
        for line in to_yaml(found).splitlines()
    )


def test_columns_are_shown():
    lines = to_yaml(loaded("data.columns={prompt: text, completion: code}")).splitlines()
    at = next(n for n, line in enumerate(lines) if line.strip() == "columns:")
    assert [line.split("#")[0].strip() for line in lines[at + 1 : at + 3]] == [
        "prompt: text",
        "completion: code",
    ]
