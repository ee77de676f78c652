"""By which metric students are compared, and why: said before the run."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from tutelage.recipe import LoadedRecipe
from tutelage.report.quantities import metric_words

_LOOKED_AT = 200
_MOST = 0.9
_SHORT = 3
_FEW = 20
_ENDS_IN_NUMBER = re.compile(r"[-+]?[$€£]?\d[\d,]*(\.\d+)?\s*%?[.)]?$")
_CHOICE = re.compile(r"\(?[A-Za-z]\)?[.:]?|yes\.?|no\.?", re.IGNORECASE)


def metric_lines(loaded: LoadedRecipe, rows: Any) -> Iterator[str]:
    """The metrics of a recipe in words, with a hint where another one fits the answers better.

    Args:
        loaded: the recipe.
        rows: tokenized test rows; None when there are none.
    """
    if rows is None:
        yield "metric: none, because there are no test data (data.test or data.test_share)"
        return
    named = [_named(name, options) for name, options in loaded.recipe.evaluation.metrics.items()]
    also = f"; also {', '.join(named[1:])}" if named[1:] else ""
    origin = next(
        (where for path, where in loaded.origins.items() if path.startswith("evaluation.metrics")),
        None,
    )
    why = f"from {origin}" if origin else "because evaluation.metrics names none"
    yield f"metric: {named[0]} ({why}){also}; {len(rows):,} test examples"
    if origin is None and (hint := _hint(rows[:_LOOKED_AT]["references"])):
        yield hint


def _named(name: str, options: dict[str, Any]) -> str:
    said = ", ".join(f"{key} {value!r}" for key, value in options.items())
    return metric_words(name) + (f", {said}" if said else "")


def _hint(references: Sequence[Sequence[str]]) -> str:
    """Another metric that fits the test answers; empty where nothing speaks for one."""
    found = fitting_metric(references)
    if found is None:
        return ""
    name, why = found
    return f"  {why}: --set 'evaluation.metrics={{{name}: {{}}}}' {_COUNTS[name]}"


_COUNTS = {
    "number": "counts who gets it right, where ROUGE-L counts shared words",
    "choice": "counts who settles on the right one",
    "exact_match": "counts who gets them right, where ROUGE-L counts shared words",
}


def fitting_metric(references: Sequence[Sequence[str]]) -> tuple[str, str] | None:
    """A metric that fits some answers, and why; None where nothing speaks for one.

    Args:
        references: accepted answers of each example, the first of which is looked at.
    """
    texts = [accepted[0].strip() for accepted in references]
    numbers = sum(bool(_ENDS_IN_NUMBER.search(text)) for text in texts)
    if numbers >= _MOST * len(texts):
        return "number", "nearly all test answers end in a number"
    if all(_CHOICE.fullmatch(text) for text in texts):
        return "choice", "the test answers are letters, or yes and no"
    short = sum(len(text.split()) <= _SHORT for text in texts)
    if short >= _MOST * len(texts) and len(set(texts)) <= _FEW:
        return "exact_match", "the test answers are a few short texts"
    return None
