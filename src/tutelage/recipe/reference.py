"""The reference of recipe keys from the schema: ``python -m tutelage.recipe.reference``."""

import types
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tutelage.recipe.base import models_in
from tutelage.recipe.schema import Recipe
from tutelage.verifiers import VERIFIERS

_HEAD = """# Recipes

A recipe is a YAML file. `extends` names a shipped recipe or another file to start from; mappings
are merged, everything else replaces, and a mapping with another `kind` replaces wholly. `--set
a.b=c` changes one value. Paths are relative to the recipe's file where they exist there, else to
the working directory. Unknown keys are errors. `bf16` and `fp32` stand for `bfloat16` and
`float32`.

A recipe that extends nothing has the defaults below: forward KL along a calibrated curriculum of 20
stages. What our evidence favours is `extends: kld_states`.

`controls` holds further arms by name. Each is a set of changes to the recipe (or `extends` a
method); all arms share student, data, selection and evaluation, and make the same number of
updates.

This page is written from the schema by `python -m tutelage.recipe.reference > docs/recipes.md`.
"""

_VERIFIERS = """
## metrics and verifiers

For `evaluation.metrics`, `supervision.verifier` and difficulties that judge answers. `math` needs
`pip install 'tutelage[math]'`.

| name | what it is | options (default) |
|---|---|---|
"""


def reference() -> str:
    """Every key with its type, default and meaning, as Markdown."""
    return _HEAD + "".join(_section("", Recipe)) + "".join(_verifiers())


def _verifiers() -> list[str]:
    """The table of what can be named as a metric or a verifier."""
    rows = [_VERIFIERS]
    for name, component in sorted(VERIFIERS.items()):
        options = [f"`{o.name}` ({_shown(o.default)})" for o in component.options.values()]
        rows.append(f"| `{name}` | {component.summary} | {', '.join(options) or 'none'} |\n")
    return rows


def _section(path: str, model: type[BaseModel]) -> list[str]:
    title = path or "top level"
    text = (model.__doc__ or "").strip().splitlines()[0]
    rows = [f"\n## {title}\n\n{text}\n\n| key | default | meaning |\n|---|---|---|\n"]
    below: list[str] = []
    fields = model.model_fields
    for name, field in fields.items():
        # A component's only key of its own is its kind; its options are in the tables.
        models = [model for model in models_in(field.annotation) if len(model.model_fields) > 1]
        rows.append(f"| `{name}` | {_default(field, bool(models))} | {_meaning(field)} |\n")
        # Keys that take the same are described at the first of them.
        alike = [other for other, one in fields.items() if one.annotation == field.annotation]
        for child in models if name == alike[0] else ():
            places = [f"{path}.{other}" if path else other for other in alike]
            kind = f" ({_kind(child)})" if len(models) > 1 else ""
            below += _section(f"{', '.join(places)}{kind}", child)
    return rows + below


def _kind(model: type[BaseModel]) -> str:
    """The kind that tells a section from its alternatives."""
    return _choices(model.model_fields["kind"].annotation)[0]


def _default(field: FieldInfo, is_section: bool) -> str:
    if is_section:
        return "none" if field.default in (None, []) else "see below"
    if field.is_required():
        return "required"
    return _shown(field.get_default(call_default_factory=True))


def _shown(value: Any) -> str:
    """A value as a recipe has it."""
    if isinstance(value, BaseModel):
        return f"`{{kind: {getattr(value, 'kind', '')}}}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"  # as YAML writes it
    return "none" if value in (None, "") else f"`{value!r}`".replace("'", "")


def _meaning(field: FieldInfo) -> str:
    text = field.description or ""
    choices = [f"`{choice}`" for choice in _choices(field.annotation)]
    if len(choices) > 1:
        return f"{text} One of {', '.join(choices)}."
    return text or f"Always {choices[0]}."


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    if get_origin(annotation) in (Union, types.UnionType, list):
        return [choice for part in get_args(annotation) for choice in _choices(part)]
    return []


if __name__ == "__main__":
    print(reference(), end="")
