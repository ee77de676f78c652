"""What on-policy steps need: room for the student's own answers, and rows that are held out."""

from dataclasses import replace
from typing import Any

import numpy as np

from tutelage.curriculum.reuse import ReusePlan, plan_reuse
from tutelage.errors import ConfigError
from tutelage.pipeline.context.session import Session
from tutelage.pipeline.stages.data import rows_of, rows_to_compare
from tutelage.recipe import Recipe
from tutelage.types import Plan

_TOKEN_BYTES = 4


def rollout_bytes(session: Session, recipe: Recipe) -> int:
    """Disk that one answer takes at most, with what the teachers say of it."""
    widths = [session.models.size_of(name).hidden_size for name in recipe.teachers_used]
    width = max(widths, default=0)
    if recipe.teacher_schedule.kind == "ensemble":
        width = sum(widths)
    # What a teacher encodes is in 16 bits only where its products are.
    half = recipe.training.precision == "bfloat16"
    per_token = _TOKEN_BYTES + width * (2 if half else 4)
    if recipe.on_policy.importance is not None:
        per_token += _TOKEN_BYTES  # how likely it was
    return per_token * recipe.on_policy.max_new_tokens


def most_rollouts(session: Session, recipe: Recipe) -> int | None:
    """How many answers may be kept at once; None where none are."""
    if recipe.on_policy.reuse == 1:
        return None
    return max(1, int(recipe.on_policy.store_gb * 1e9 / max(rollout_bytes(session, recipe), 1)))


def reuse_of(session: Session, recipe: Recipe, plan: Plan) -> ReusePlan | None:
    """Which visits of a plan write and which learn once more; None where no step is on-policy."""
    own = recipe.on_policy
    if not plan.on_policy.any():
        return None
    found = plan_reuse(plan, own.reuse, own.max_age, most_rollouts(session, recipe))
    if own.most_replayed is None:
        return found
    # If all steps write: what may be replayed stays, and what a checkpoint may ask for does too.
    training = recipe.training
    stay = -(-own.most_replayed // training.batch_size)
    stay += training.checkpoint_every * training.keep_checkpoints
    last_use = np.minimum(found.last_use + stay, plan.total_steps - 1)
    return replace(found, again=found.source >= 0, last_use=last_use)


def held_out_rows(session: Session, recipe: Recipe) -> Any:
    """Validation rows whose loss decides whose text is learned; None where the plan decides.

    As many as students are validated on, and of these the ones that have an answer to be read.

    Raises:
        ConfigError: there are none.
    """
    if recipe.on_policy.rule is None:
        return None
    rows = rows_of(session, "validation")
    found = None if rows is None else rows_to_compare(rows)
    if not found:
        raise ConfigError(
            "on_policy.adaptive needs data.validation: the loss on its answers decides when the"
            " student learns from its own, and there is no validation row with an answer. Give"
            " some, for example with data.validation_share=0.1, or say on_policy.adaptive=null."
        )
    limit = recipe.selection.limit
    return found if limit is None else found.select(range(min(limit, len(found))))


def check_held_out(session: Session) -> None:
    """Refuse at once an arm that would lack them; see ``held_out_rows``."""
    for recipe in session.loaded.arms.values():
        held_out_rows(session, recipe)
