"""Which trackers a recipe asks for, and whether they are installed."""

import importlib.util

from tutelage.recipe.load import LoadedRecipe


def missing_trackers(loaded: LoadedRecipe) -> list[str]:
    """One message for each tracker that a recipe or a control names and that is not installed.

    Args:
        loaded: the recipe with its arms.
    """
    named = {name: None for arm in loaded.arms.values() for name in arm.training.report_to}
    return [
        f"the tracker '{name}' is not installed. Install it with: pip install 'tutelage[{name}]',"
        " or leave it out: a run keeps its own records anyway."
        for name in named
        if importlib.util.find_spec(name) is None
    ]
