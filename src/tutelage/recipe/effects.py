"""Which settings of a recipe change a result, and which do not.

What stands in ``NO_RESULT`` costs or saves time, memory or disk, or is for people; it may change
the last bits of a number, as another machine would, and so remakes nothing and retrains nothing.
A setting that nothing asks for (sampling when answers are greedy) does not count either.
"""

from typing import Any

from tutelage.curriculum.options import AS_IF_NOT_THERE, LOSS_VALUES
from tutelage.generation.engines.table import what_decides
from tutelage.recipe.schema import Recipe

NO_RESULT = (
    "title",
    "description",
    "differs_from_paper",
    "paper",
    "output",
    "student.finetune.checkpoint_every",
    "teacher.store",
    "teacher.finetune.checkpoint_every",
    "on_policy.alarms",
    "difficulty.batch_tokens",
    "evaluation.batch_tokens",
    "supervision.batch_tokens",
    "training.log_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.report_to",
    "training.num_threads",
    "training.gradient_checkpointing",
    "training.tile_tokens",
    "training.shard",
)
"""Left out of the recipe's fingerprint and of what every part is made from; ``teacher`` stands for
each of ``teachers`` too."""

_QUIET_LOSS = {
    "second_divergence": None,
    "tokens": None,
    "ce_trust": "all",
    "state_weight": 0.0,
}
"""Of the loss what came later, as it is where it does nothing: recipes without it stay the same."""


def effective(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain values, without what changes no result; without its controls."""
    values = recipe.model_dump(mode="json", exclude={"controls"})
    values["seed"] = _seeds(recipe)
    del values["seeds"]
    used = recipe.on_policy.is_used
    values["on_policy"] = recipe.on_policy.as_before if used else {"fraction": 0.0}
    for path in NO_RESULT:
        section, _, key = path.partition(".")
        owners = values["teachers"] if section == "teacher" else []
        for owner in ([values[section]] if key else [values]) + owners:
            _drop(owner, key or section)
    for teacher in (values["teacher"], *values["teachers"]):
        if teacher is not None and teacher["signal"] != "topk":
            # Live and hidden are the same signal, kept in another place.
            teacher.pop("signal")
            teacher.pop("top_k")
    evaluation = values["evaluation"]
    if evaluation["sampling_temperature"] == 0:
        for key in ("top_p", "top_k"):
            evaluation.pop(key)
    for section in (evaluation, values["supervision"]):
        if not section["stop_strings"]:  # as it was before there were any
            section.pop("stop_strings")
    if evaluation["suites"] == [{"kind": "test", "name": ""}]:  # as before there were others
        evaluation.pop("suites")
    values.pop("engine")
    engine = what_decides(recipe.engine.kind, recipe.engine.options)
    if engine != {"kind": "local"}:
        # Whoever asks it is made anew with it; training asks this process alone.
        values["evaluation"]["engine"] = values["supervision"]["engine"] = engine
    for section, key in (("training", "average"), ("curriculum", "weights")):
        if values[section][key] is None:  # as it was before there was one
            values[section].pop(key)
    if values["selection"]["suite"] is None:  # as it was before there could be one
        values["selection"].pop("suite")
    if values["selection"]["metric"] is None:
        values["selection"] = {"metric": None}
    if not recipe.loss.sampled:  # as it was before there was a choice
        values["loss"].pop("sampled")
    for name, quiet in {**AS_IF_NOT_THERE, **_QUIET_LOSS}.items():
        if values["loss"][name] == quiet:
            values["loss"].pop(name)
    if not recipe.loss.state_weight:
        values["loss"].pop("state_floor")
    if recipe.loss.is_cross_entropy_alone:
        values["loss"] = {n: values["loss"][n] for n in LOSS_VALUES if n in values["loss"]}
    if not recipe.uses_text:
        values["supervision"] = {"kind": values["supervision"]["kind"]}
    return values


def _seeds(recipe: Recipe) -> int | dict[str, int]:
    """The seeds that count; a single number where all of them are the same."""
    seeds = recipe.all_seeds
    return seeds if len(set(seeds.values())) > 1 else recipe.data_seed


def _drop(owner: dict[str, Any] | None, path: str) -> None:
    """Remove a dotted key, where there is one."""
    first, _, rest = path.partition(".")
    if owner is None or first not in owner:
        return
    if rest:
        _drop(owner[first], rest)
    else:
        owner.pop(first)
