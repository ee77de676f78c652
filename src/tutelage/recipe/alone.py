"""One arm as a whole recipe of its own: a recipe with models and data, and a method over it."""

from collections.abc import Mapping
from typing import Any

from tutelage.errors import ConfigError
from tutelage.recipe.files import resolve_paths
from tutelage.recipe.load import SHARED, gives, load_recipe, read_layers
from tutelage.recipe.merge import merge
from tutelage.recipe.nodes import Node, from_value


def arm_alone(
    base: str,
    arm: str,
    changes: Node,
    *,
    common: Node | None = None,
    over: Mapping[str, Any] | None = None,
    name: str = "",
) -> dict[str, Any]:
    """The recipe of one arm without controls, as plain values that :func:`load_recipe` takes.

    Later layers win: ``base``, the method that the arm extends (without models, data and judges of
    its own), ``common``, the arm's own changes, ``over``.

    Args:
        base: name or path of a whole recipe; its main method and its controls do not count.
        arm: what to call the arm.
        changes: the arm, as a control is written.
        common: changes that all arms have.
        over: dotted keys and values.
        name: name of the recipe; as the base's when empty.

    Raises:
        ConfigError: the arm's method brings models or data, or the result is no whole recipe.
    """
    tree, _ = read_layers(base)
    tree = tree.without("controls", "arm", "title", "description", "paper", "differs_from_paper")
    extends = changes.get("extends")
    if extends is not None:
        method = _method(arm, extends)
        tree = merge(tree, method.without("title", "description", "seeds", *SHARED))
    for layer in (common, changes.without("extends")):
        if layer is not None:
            tree = merge(tree, layer)
    for path, value in (over or {}).items():
        tree = merge(tree, Node({}, "study").put(path, from_value(value, f"study: {path}")))
    tree = tree.put("arm", from_value(arm, "study"))
    if name:
        tree = tree.put("name", from_value(name, "study"))
    plain = resolve_paths(tree).plain
    load_recipe(plain)
    return plain


def _method(arm: str, extends: Node) -> Node:
    if not isinstance(extends.value, str):
        raise ConfigError(
            f"{extends.origin}: `extends` takes one name of a shipped recipe or one path of a file."
        )
    place = extends.folder / extends.value if extends.folder is not None else None
    there = place is not None and place.is_file()
    method, _ = read_layers(str(place) if there else extends.value)
    if gives(method, "student") or gives(method, "data"):
        raise ConfigError(
            f"{extends.origin}: the arm '{arm}' extends '{extends.value}', which brings a student"
            " or data of its own; the arms of a study share these. Extend a method such as `kld`."
        )
    return method
