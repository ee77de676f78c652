"""Where a recipe asks for 16 bits, and what this machine makes of them."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from tutelage.models.products import fast_in
from tutelage.pipeline.context.models import device
from tutelage.recipe import Recipe


def slow_precision(recipes: Iterable[Recipe]) -> str | None:
    """A sentence on bfloat16 that was asked for speed and brings the opposite, or None.

    Where the processor has no instructions for it every product is emulated, up to eighty times as
    slow as in float32.

    Args:
        recipes: of all arms.
    """
    if fast_in(torch.bfloat16, device()):
        return None
    asked = sorted({key for recipe in recipes for key in _asked(recipe)})
    if not asked:
        return None
    return (
        "this processor has no bfloat16 instructions, so products in bfloat16 take many times as"
        f" long as in float32 here. Set {', '.join(asked)} to float32."
    )


def _asked(recipe: Recipe) -> Iterator[str]:
    """The settings of a recipe that say bfloat16 for products."""
    student: Any = recipe.student
    places: dict[str, Any] = {
        "training.precision": recipe.training,
        "evaluation.precision": recipe.evaluation,
        "student.finetune.precision": student and student.finetune,
    }
    for name, teacher in recipe.ladder.items():
        where = f"finetune.precision of the teacher {name}" if recipe.teachers else ""
        places[where or "teacher.finetune.precision"] = teacher.finetune
    for key, section in places.items():
        if section is not None and section.precision == "bfloat16":
            yield key
