"""How one tree of a recipe is laid over another: what a file says over what it extends."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from tutelage.curriculum.options import LENGTHS, OF_THE_KIND
from tutelage.curriculum.table import CURRICULA
from tutelage.recipe.base import models_in
from tutelage.recipe.nodes import Node
from tutelage.recipe.schema import Recipe

# In these sections a key of the upper layer makes keys of the lower one void: they answer the same
# question, and the last word counts.
_REPLACES: dict[str, dict[str, tuple[str, ...]]] = {
    "": {"teacher": ("teachers",), "teachers": ("teacher",)},
    "student": {"model": ("init_from", "layers"), "init_from": ("model",)},
    "curriculum": {name: tuple(other for other in LENGTHS if other != name) for name in LENGTHS},
}


@functools.cache
def default_kinds() -> dict[str, str]:
    """What a section is when it does not say its ``kind``, by its key, from the schema."""
    return dict(_kinds(Recipe))


def _kinds(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        for section in models_in(field.annotation):
            kind = section.model_fields.get("kind")
            if kind is not None and isinstance(default, section):
                yield name, vars(default)["kind"]
            elif default is None and kind is not None and not kind.is_required():
                yield name, kind.default
            yield from _kinds(section)


def merge(base: Node, over: Node, key: str = "") -> Node:
    """Lay one tree over another.

    Mappings are merged key by key; scalars, lists, null and ``{}`` replace. A mapping with
    another ``kind`` replaces wholly, because its options belong to the kind. The curriculum alone
    keeps what all its kinds share (stages, epochs, updates), so that an ablation can change
    nothing but the kind.

    Args:
        base: the lower tree.
        over: the upper tree, which wins.
        key: the key at which the two are found, empty at the top.
    """
    emptied = key != "" and over.value == {}
    if not isinstance(base.value, dict) or not isinstance(over.value, dict) or emptied:
        return over
    other_kind = "kind" in over.value and _kind(over, key) != _kind(base, key)
    if other_kind and key != "curriculum":
        return over
    void: set[str] = set(_of_the_kind(_kind(base, key)) if other_kind else ())
    for name, child in over.value.items():
        if child.value is not None:
            void.update(_REPLACES.get(key, {}).get(name, ()))
    merged = {name: child for name, child in base.value.items() if name not in void}
    for name, child in over.value.items():
        merged[name] = merge(merged[name], child, name) if name in merged else child
    return Node(merged, base.origin if key == "" else over.origin, base.folder)


def undone(earlier: Sequence[Node], later: Node) -> tuple[str, str] | None:
    """What was asked for and is void by what is asked for after it, though both come from one hand.

    Args:
        earlier: trees that were laid one over another.
        later: the tree that follows.

    Returns:
        The key that would be void and the key that makes it so; None where there is none.
    """
    for section, table in _REPLACES.items():
        inside = f"{section}." if section else ""
        for name, others in table.items():
            if not _says(later, inside + name):
                continue
            for other in others:
                last = next((one for one in reversed(earlier) if one.get(inside + other)), None)
                if last is not None and _says(last, inside + other):
                    return inside + other, inside + name
    return None


def _says(tree: Node, path: str) -> bool:
    """Whether a tree has something at a path, and not null."""
    node = tree.get(path)
    return node is not None and node.value is not None


def _of_the_kind(kind: Any) -> tuple[str, ...]:
    """Keys of a curriculum that say nothing of another kind: its options, and what it decides."""
    options = CURRICULA[kind].options if isinstance(kind, str) and kind in CURRICULA else ()
    return (*OF_THE_KIND, *options)


def _kind(node: Node, key: str) -> Any:
    stated = node.get("kind")
    return default_kinds().get(key) if stated is None else stated.value
