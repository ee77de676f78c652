"""Recipes: YAML in, a validated value out. Read by checks, pipeline and cli alone."""

from tutelage.recipe.effects import effective
from tutelage.recipe.explain import controls_text, to_yaml
from tutelage.recipe.load import LoadedRecipe, RecipeInfo, list_recipes, load_recipe, shipped
from tutelage.recipe.schema import Recipe

__all__ = [
    "LoadedRecipe",
    "Recipe",
    "RecipeInfo",
    "controls_text",
    "effective",
    "list_recipes",
    "load_recipe",
    "shipped",
    "to_yaml",
]
