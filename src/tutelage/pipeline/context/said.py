"""What a user sets for all suites, and which of them it reaches: most have values of their own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tutelage.errors import ConfigError
from tutelage.evaluation import SUITES, Suite
from tutelage.recipe import Recipe
from tutelage.recipe.evaluation import SuiteChoice

_HOW_TO_ANSWER = (
    "max_new_tokens", "max_total_tokens", "sampling_temperature", "top_p", "top_k", "stop_strings",
)  # fmt: skip
_OTHERS = ("seeds", "metrics")
_INSTEAD = {
    "seeds": "samples",
    "max_new_tokens": "max_length",
    "max_total_tokens": "max_length",
}
"""What a suite may call it."""


def unreached(
    recipe: Recipe, suites: Mapping[str, Suite], settings: Sequence[str]
) -> Iterator[str]:
    """What is set for all suites and does not reach some of them, in words.

    Args:
        recipe: with the settings.
        suites: as made of it, by name.
        settings: ``evaluation.key=value`` as they were given.

    Raises:
        ConfigError: something reaches no suite at all.
    """
    asked = [(chosen, suites[chosen.called]) for chosen in recipe.evaluation.suites]
    for setting in settings:
        path, _, value = setting.partition("=")
        section, _, key = path.strip().partition(".")
        key = key.partition(".")[0]
        if section != "evaluation" or key not in (*_HOW_TO_ANSWER, *_OTHERS):
            continue
        missed = [(chosen, suite) for chosen, suite in asked if not _reaches(recipe, suite, key)]
        said = f"{key}={value.strip()}"
        if len(missed) == len(asked):
            raise ConfigError(f"{said} would change nothing for {_why(*missed[0], key)}")
        for chosen, suite in missed:
            if suite.measure is None:  # nobody expects the others to write answers
                yield f"{said} does not count for {_why(chosen, suite, key)}"


def _why(chosen: SuiteChoice, suite: Suite, key: str) -> str:
    """Which suite a setting does not reach, and what would reach it."""
    options = SUITES[chosen.kind].options
    if suite.measure is not None:
        return f"'{suite.name}', which writes no answers. Leave it out."
    if key == "metrics" and key not in options:
        return f"'{suite.name}', which is scored by {', '.join(suite.metrics)}. Leave it out."
    name = key if key in options else _INSTEAD.get(key, key)
    if name in options:
        return f"'{suite.name}', which has its own. Set that: --set {chosen.kind}.{name}=..."
    return (
        f"'{suite.name}', which has its own and no option for it. `tutelage suites` lists its"
        " options."
    )


def _reaches(recipe: Recipe, suite: Suite, key: str) -> bool:
    if suite.measure is not None:
        return False
    said: Any = getattr(recipe.evaluation, key)
    if key == "metrics":
        return list(suite.metrics) == list(said)
    found: Any = suite.seeds if key == "seeds" else getattr(suite.generation, key)
    return found == (tuple(said) if isinstance(said, list) else said)
