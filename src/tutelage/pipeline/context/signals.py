"""The teachers of an arm as signals, each loaded when a step asks for it."""

import functools
from collections.abc import Callable
from typing import Any

from tutelage.curriculum import TEACHER_SCHEDULES
from tutelage.pipeline.context.models import Models, autocast_dtype, device
from tutelage.recipe import Recipe
from tutelage.teachers import EnsembleTeacher, TeacherLadder, TeacherSignal, live_teacher
from tutelage.training.settings import parts_of

OneTeacher = Callable[[str], TeacherSignal]


def signals(
    models: Models, recipe: Recipe, stored: OneTeacher | None = None, *, processes: int = 1
) -> TeacherLadder:
    """The teachers of an arm as signals.

    Args:
        models: of the run.
        recipe: the recipe of the arm.
        stored: gives the stored signal of a teacher by its name; None runs them live.
        processes: over how many a live teacher may be cut.
    """
    one = stored or functools.partial(_live, models, recipe, processes)
    schedule = TEACHER_SCHEDULES[recipe.teacher_schedule.kind]
    if schedule.mixes:
        return TeacherLadder({" + ".join(recipe.ladder): lambda: _ensemble(recipe, one)})
    # A mixture by steps would load its teachers again and again.
    keep_all = schedule.alternates
    loaders = {name: functools.partial(one, name) for name in recipe.ladder}
    return TeacherLadder(loaders, keep_all=keep_all)


def _live(models: Models, recipe: Recipe, processes: int, name: str) -> TeacherSignal:
    """A teacher beside the student: all of it in every process, or cut over them."""
    autocast = autocast_dtype(recipe.training.precision)
    options: dict[str, Any] = {"padding_free": recipe.training.padding_free}
    if parts_of(recipe.training.shard, "teacher", processes) > 1:
        models.release_teacher()
        model = models.loaded_teacher(name)
        models.check_head(teacher=model)
        return live_teacher(model, models.vocab_size, autocast, **options).cut(device())
    model = models.any_teacher(name)
    models.check_head(teacher=model)
    if recipe.on_policy.is_used and recipe.on_policy.reuse > 1:
        models.release_teacher()  # it can rest where nobody else holds it
        options["again"] = functools.partial(models.load_teacher, name)
    return live_teacher(model, models.vocab_size, autocast, **options)


def _ensemble(recipe: Recipe, one: OneTeacher) -> EnsembleTeacher:
    options = recipe.teacher_schedule.options
    weights = options.get("weights") or [1.0] * len(recipe.ladder)
    teachers = [one(name) for name in recipe.ladder]
    return EnsembleTeacher(teachers, weights, options.get("space", "probability"))
