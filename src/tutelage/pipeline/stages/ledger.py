"""What an arm spends, in currencies that can be compared: updates, tokens, FLOPs, seconds."""

from typing import Any

import numpy as np

from tutelage.curriculum import load_plan, plan_folder
from tutelage.data.lengths import NUM_TOKENS, stored_lengths, stored_texts
from tutelage.difficulty import needs
from tutelage.files import read_json_or
from tutelage.pipeline.context.session import Session, training_stage
from tutelage.pipeline.stages.cost import cost_of, trainable
from tutelage.pipeline.stages.data import rows_of, training_rows
from tutelage.pipeline.stages.plan import refreshes
from tutelage.pipeline.stages.room import stores_ahead
from tutelage.pipeline.stages.signal import decide_signals
from tutelage.pipeline.stages.store import LIVE, STORING
from tutelage.recipe import Recipe
from tutelage.training.state_maps import flops_of_token
from tutelage.types import Ledger

FORWARD = 2.0
"""Floating-point operations for each parameter and token that is read: a product and a sum."""

_SHARED_STAGES = ("texts", STORING)


def ledger_of(session: Session, arm: str) -> Ledger:
    """What an arm spends, from its plan; with the seconds that its stages took so far."""
    recipe = session.loaded.arms[arm]
    plan = load_plan(plan_folder(session.part(f"arms/{arm}")))
    limit = recipe.training.max_steps
    cost = cost_of(session, arm)
    student = session.models.student_size.parameters
    teacher = 0 if session.models.teacher_size is None else session.models.teacher_size.parameters
    live = decide_signals(session).get(arm, LIVE) == LIVE
    read = cost.teacher_tokens if live else _asked_once(session, arm, plan)
    if recipe.curriculum.plain.asks_difficulty and _reads_store(session, recipe):
        # Its loss on every example is read from the store that training reads, which has them all.
        read = max(read, _tokens(rows_of(session, "train")))
    flops = {
        "training": _step_flops(recipe, student, session) * cost.tokens,
        "teacher": FORWARD * teacher * read,
        "generation": FORWARD * student * cost.generated_tokens,
        "weights": FORWARD * student * cost.weighed_tokens,
        "difficulty": _difficulty_flops(session, recipe, student, teacher),
        "texts": _texts_flops(session, arm, teacher),
        "states": _states_flops(session, arm, plan),
    }
    return Ledger(
        updates=min(plan.total_steps, limit or plan.total_steps),
        student_tokens=cost.tokens,
        flops={name: value for name, value in flops.items() if value},
        seconds=_seconds(session, arm),
    )


def _step_flops(recipe: Recipe, parameters: int, session: Session) -> float:
    """Of a token in a training step: forward, and backward through activations and weights."""
    weights = trainable(session.models.student_size, recipe)
    again = FORWARD * parameters if recipe.training.gradient_checkpointing else 0.0
    return 2 * FORWARD * parameters + FORWARD * weights + again


def _asked_once(session: Session, arm: str, plan: Any) -> int:
    """Tokens of the examples that a teacher is asked about, each once, as a store does."""
    rows = training_rows(session, arm)
    lengths = stored_lengths(rows, NUM_TOKENS)[stored_texts(rows, "id").locate(plan.ids)]
    asked = np.repeat(plan.takes_logits, np.diff(plan.offsets))
    return int(lengths[np.unique(plan.visits[asked])].sum())


def _states_flops(session: Session, arm: str, plan: Any) -> float:
    """Of matching hidden states, at every response token that is learned from."""
    student, teacher = session.models.student_size, session.models.teacher_size
    if not session.loaded.arms[arm].loss.state_weight or teacher is None:
        return 0.0
    rows = training_rows(session, arm)
    answers = stored_lengths(rows, NUM_TOKENS) - np.asarray(rows["num_prompt_tokens"])
    learned = int(answers[stored_texts(rows, "id").locate(plan.ids)][plan.visits].sum())
    return float(learned * flops_of_token(student.hidden_size, teacher.hidden_size))


def _difficulty_flops(session: Session, recipe: Recipe, student: int, teacher: int) -> float:
    """Of measuring difficulty, as often as it is measured; nothing where it decides nothing."""
    if not recipe.curriculum.plain.asks_difficulty:
        return 0.0
    settings = recipe.difficulty
    wanted = needs(settings.kind, settings.options)
    rows = rows_of(session, "train")
    tokens = _tokens(rows)
    share = min(1.0, (settings.sample or len(rows)) / len(rows))
    passes = student * ("student_losses" in wanted)
    if "teacher_losses" in wanted and not _reads_store(session, recipe):
        passes += teacher
    if "answers" in wanted:
        passes += student * _samples(settings.options)
    return FORWARD * passes * tokens * share * (1 + len(refreshes(recipe)))


def _tokens(rows: Any) -> int:
    """Of all rows together."""
    return int(stored_lengths(rows, NUM_TOKENS).sum())


def _reads_store(session: Session, recipe: Recipe) -> bool:
    """Whether a difficulty takes the teacher's loss from its store, as often as it is measured."""
    wanted = needs(recipe.difficulty.kind, recipe.difficulty.options)
    from_store = "teacher_losses" in wanted and "entropies" not in wanted
    return from_store and stores_ahead(session, recipe)


def _samples(options: Any) -> int:
    """How many answers a difficulty asks for."""
    parts = options.get("of", ())
    return int(options.get("samples", max((_samples(part) for part in parts), default=1)))


def _texts_flops(session: Session, arm: str, teacher: int) -> float:
    """Of the answers that teachers wrote for an arm, those that were dropped too."""
    if not session.loaded.arms[arm].uses_text:
        return 0.0
    rows = training_rows(session, arm)
    tokens = _tokens(rows)
    found = read_json_or(session.part(f"arms/{arm}/texts") / "summary.json", {})
    written = sum(one.get("asked", 0) for one in found.values() if isinstance(one, dict))
    return FORWARD * teacher * tokens * max(1.0, written / max(len(rows), 1))


def _seconds(session: Session, arm: str) -> dict[str, float]:
    """What the clock charged to what the arm needs; nothing before it is trained."""
    spent, stage = session.clock.seconds, training_stage(arm)
    if stage not in spent:
        return {}
    recipe = session.loaded.arms[arm]
    found = {"training": spent[stage]}
    if recipe.curriculum.plain.asks_difficulty:
        found["difficulty"] = spent.get("difficulty", 0.0)
    return found | {name: spent[name] for name in _SHARED_STAGES if name in spent}
