"""`tutelage plan` says by which metric students are compared, and why it is that one."""

import datasets
import pytest

from tutelage.pipeline.stages.metric import metric_lines
from tutelage.recipe import load_recipe


def lines(references, evaluation=""):
    loaded = load_recipe({"extends": "cpd", **evaluation} if evaluation else "cpd", partial=True)
    rows = None
    if references is not None:
        rows = datasets.Dataset.from_list([{"references": [text]} for text in references])
    return list(metric_lines(loaded, rows))


GSM8K = [f"He has {n} - 3 = {n - 3}.\n#### {n - 3:,}" for n in range(5, 2000, 50)]


@pytest.mark.parametrize(
    ("references", "hint"),
    [
        (GSM8K, "{number: {}}"),
        (["positive", "negative", "in between"] * 10, "{exact_match: {}}"),
        (["Yes", "no."] * 10, "{choice: {}}"),
        (["(B)", "A", "d"] * 10, "{choice: {}}"),
        (["Paris is the capital of France."] * 10, None),
        ([f"A long text about {n} things" for n in range(30)], None),
    ],
)
def test_a_metric_that_nobody_named_is_said_with_a_better_one(references, hint):
    first, *others = lines(references)
    assert first.startswith("metric: ROUGE-L (because evaluation.metrics names none)")
    assert len(others) == (hint is not None) and (hint or "") in "".join(others)
    # What is advised is a recipe.
    if hint:
        load_recipe("cpd", [f"evaluation.metrics={hint}"], partial=True)


def test_a_metric_that_was_named_is_said_with_where():
    named = {"evaluation": {"metrics": {"exact_match": {"after": "#"}, "rouge_l": {}}}}
    (line,) = lines(GSM8K, named)
    assert line.startswith("metric: exact match, after '#' (from") and "also ROUGE-L" in line
    assert f"{len(GSM8K)} test examples" in line


def test_no_test_data_is_said():
    assert "no test data" in lines(None)[0]
