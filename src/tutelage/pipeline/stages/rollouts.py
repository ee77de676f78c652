"""How many of the student's own answers a run keeps, and what they take."""

from tutelage.curriculum.reuse import ReusePlan, plan_reuse
from tutelage.pipeline.context.session import Session
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
    return plan_reuse(plan, own.reuse, own.max_age, most_rollouts(session, recipe))
