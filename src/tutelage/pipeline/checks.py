"""What a run can know of its models before it makes anything: sizes, names, places."""

from pathlib import Path
from typing import Any

from tutelage.errors import ConfigError
from tutelage.models import keep_layers, load_config
from tutelage.models.adapters import check_lora_targets
from tutelage.models.load import skeleton
from tutelage.pipeline.session import Session
from tutelage.pipeline.workshop import loading
from tutelage.recipe import Recipe


def check_models(session: Session) -> None:
    """Refuse what the recipe asks of its models and they cannot give; no weight is read.

    Raises:
        ConfigError: numbers of tokens above the vocabulary, layers or LoRA targets that are not
            there, a store's place that is a file.
        ModelError: a model is broken, or cannot be cut as asked.
    """
    shop, recipe = session.shop, session.recipe
    for arm in session.loaded.arms.values():
        _check_token_counts(arm, shop.vocab_size)
    cut = {}
    for name, teacher in recipe.ladder.items():
        _check_store(teacher.store)
        cut[name] = _cut(shop.base_teacher(name), loading(teacher), teacher.layers)
    assert recipe.student is not None
    if recipe.student.init_from == "TEACHER":
        student = cut[shop.strongest]
        student = keep_layers(student, recipe.student.layers) if recipe.student.layers else student
    else:
        student = _cut(shop.student_source, shop.student_loading, recipe.student.layers)
    for arm in session.loaded.arms.values():
        if arm.training.lora is not None:
            check_lora_targets(student, arm.training.lora.target_modules)


def _cut(place: str, options: dict[str, Any], layers: int | None) -> Any:
    """The skeleton of a model, with fewer layers where that is asked."""
    config = load_config(place, **options)
    model = skeleton(config, trust_remote_code=options["trust_remote_code"])
    return model if layers is None else keep_layers(model, layers)


def _check_token_counts(recipe: Recipe, vocab_size: int) -> None:
    """Numbers of likeliest tokens are numbers of tokens that there are."""
    asked = {
        "loss.top_k": recipe.loss.top_k,
        "evaluation.top_k": recipe.evaluation.top_k,
        "on_policy.top_k": recipe.on_policy.top_k,
    }
    for name, teacher in recipe.ladder.items():
        if teacher.signal == "topk":
            key = "teacher.top_k" if name == "teacher" else f"top_k of the teacher '{name}'"
            asked[key] = teacher.top_k
    for key, count in asked.items():
        if count is not None and count > vocab_size:
            raise ConfigError(
                f"{key} is {count:,}, and the tokenizer has {vocab_size:,} tokens. Choose a number"
                f" up to {vocab_size:,}, or leave it out."
            )


def _check_store(store: str | None) -> None:
    """A store's folder is no file, nor below one."""
    for place in (Path(store), *Path(store).parents) if store else ():
        if place.exists() and not place.is_dir():
            raise ConfigError(
                f"teacher.store is '{store}', and '{place}' is a file. Name a folder: a new one, or"
                " one that `tutelage cache` filled."
            )
