"""What a run can know of its models before it makes anything, once their libraries are loaded.

``tutelage.checks`` has looked at the files by then; here the models are built, without weights.
"""

from typing import Any

from tutelage.checks.models import check_token_count, token_counts
from tutelage.checks.updates import check_stages, most_updates
from tutelage.errors import ConfigError
from tutelage.files import read_json
from tutelage.models import keep_layers, load_config
from tutelage.models.adapters import check_lora_targets
from tutelage.models.load import skeleton
from tutelage.pipeline.context.models import loading
from tutelage.pipeline.context.session import Session


def check_models(session: Session) -> None:
    """Refuse what the recipe asks of its models and they cannot give; no weight is read.

    Raises:
        ConfigError: numbers of tokens above the vocabulary, layers or LoRA targets that are not
            there.
        ModelError: a model is broken, or cannot be cut as asked.
    """
    models, recipe = session.models, session.recipe
    for arm in session.loaded.arms.values():
        for key, count in token_counts(arm).items():
            check_token_count(key, count, models.vocab_size)
    cut = {}
    for name, teacher in recipe.ladder.items():
        cut[name] = _cut(models.base_teacher(name), loading(teacher), teacher.layers)
    start = recipe.student_section
    if start.init_from == "TEACHER":
        student = cut[models.strongest]
        student = keep_layers(student, start.layers) if start.layers else student
    else:
        student = _cut(models.student_source, models.student_loading, start.layers)
    for arm in session.loaded.arms.values():
        if arm.training.lora is not None:
            check_lora_targets(student, arm.training.lora.target_modules)


def check_controls(session: Session) -> None:
    """Refuse controls with more stages than updates, now that the rows are counted.

    Raises:
        ConfigError: some stages of a control would get no update.
    """
    rows = read_json(session.part("data") / "summary.json")["train"]["kept"]
    most = most_updates(session.recipe, rows)
    if most is None:
        return
    for arm in session.loaded.arms:
        if arm != session.main_arm:
            check_control(session, arm, most, f"{most} at most with the {rows} examples it has")


def check_control(session: Session, arm: str, updates: int, words: str) -> None:
    """Refuse a control with more stages than the updates that it makes; see ``check_stages``."""
    try:
        check_stages(session.loaded.arms[arm], updates, words)
    except ConfigError as error:
        raise ConfigError(f"controls.{arm}.curriculum.stages: {error}") from error


def _cut(place: str, options: dict[str, Any], layers: int | None) -> Any:
    """The skeleton of a model, with fewer layers where that is asked."""
    config = load_config(place, **options)
    model = skeleton(config, trust_remote_code=options["trust_remote_code"])
    return model if layers is None else keep_layers(model, layers)
