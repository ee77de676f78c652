"""The suites of a run, made from its recipe: what is asked at the end, and in training."""

import dataclasses

from tutelage.checks.data import column_names
from tutelage.errors import unknown_name
from tutelage.evaluation import OWN, Suite, bound_metrics, make_suite
from tutelage.generation import GenerationSettings
from tutelage.recipe import Recipe
from tutelage.recipe.evaluation import SuiteChoice


def own_suite(recipe: Recipe) -> Suite:
    """What the ``evaluation:`` section of a recipe describes."""
    section = recipe.evaluation
    return Suite(
        name=OWN,
        metrics=bound_metrics(section.metrics),
        generation=section.values_of(GenerationSettings),
        seeds=tuple(section.seeds),
        limit=section.limit,
        columns=column_names(recipe.data),
    )


def suites_of(recipe: Recipe) -> dict[str, Suite]:
    """The suites that a run evaluates, each by what the name of its results ends in.

    The results of the first one lead: they are called what they always were.
    """
    asked = own_suite(recipe)
    made = [
        make_suite(chosen.kind, chosen.options, asked, chosen.called)
        for chosen in recipe.evaluation.suites
    ]
    return {f"-{suite.name}" if place else "": suite for place, suite in enumerate(made)}


def validation_suite(recipe: Recipe) -> Suite:
    """What is asked of a student in training, to select the best: greedy answers are enough.

    Raises:
        ConfigError: the suite that is to select does not give the metric that it is to select by.
    """
    asked = own_suite(recipe)
    chosen, metric = recipe.selection.suite, recipe.selection.metric
    if chosen is not None:
        asked = make_suite(chosen.kind, chosen.options, asked, chosen.called)
        if metric is not None and metric not in asked.metrics:
            raise unknown_name("selection.metric", metric, asked.metrics)
    return dataclasses.replace(
        asked,
        name="validation",
        split="validation",
        generation=dataclasses.replace(asked.generation, sampling_temperature=0.0),
        limit=recipe.selection.limit,
        ks=(),
    )


def chosen_suite(recipe: Recipe, name: str) -> SuiteChoice:
    """How a recipe asks for a suite of a name."""
    return next(chosen for chosen in recipe.evaluation.suites if chosen.called == name)


def agreement_asked(recipe: Recipe) -> bool:
    """Whether a recipe wants students compared with the strongest teacher on the test rows."""
    section = recipe.evaluation
    asked = any(suite.called == OWN for suite in section.suites)
    return section.agreement and asked and bool(recipe.ladder)
