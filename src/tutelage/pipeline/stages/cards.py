"""The card of each student: what its recipe, its models and its data say of themselves."""

import contextlib
import shutil
from collections.abc import Iterator

import yaml

from tutelage.checks.data import is_here
from tutelage.files import atomic_write_text
from tutelage.models.places import local_place
from tutelage.pipeline.context.folder import CARD
from tutelage.pipeline.context.session import Session
from tutelage.recipe import Recipe
from tutelage.report import Run, card_values, model_card


def write_cards(session: Session, run: Run) -> None:
    """Put a card and the recipe that it names into the folder of each arm's student."""
    base, data = _hub_model(session), _hub_data(session.recipe)
    for arm in run.arms:
        folder = session.part(f"arms/{arm.name}/student")
        if not folder.is_dir():
            continue
        recipe = session.loaded.arms[arm.name]
        values = card_values(
            run,
            arm,
            base_model=base,
            datasets=data,
            settings=tuple(_settings(recipe)),
            licences=tuple(_licences(session, recipe)),
            # Arms share data and teachers; a control may have another seed for its student.
            seeds={**session.recipe.all_seeds, "student": recipe.student_seed},
            show_prompt=recipe.data is not None and recipe.data.kind != "files",
        )
        shutil.copyfile(session.run.path / "recipe.yaml", folder / "recipe.yaml")
        atomic_write_text(folder / CARD, model_card(values))


def _settings(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What somebody who reads the card asks about the training."""
    data, training, loss = recipe.data, recipe.training, recipe.loss
    if data is not None and data.kind == "files":
        yield "data", str(data.train)
        yield "prompt template", data.template
    elif data is not None:
        yield "data", "chained sums, made by Tutelage"
    if recipe.uses_text:
        yield "learns", "answers that the teacher wrote"
    elif loss.is_cross_entropy_alone:
        yield "loss", "cross-entropy on the answers of the data"
    else:
        yield "divergence", loss.divergence.kind
    yield "learning rate", f"{training.learning_rate:g}, {training.lr_schedule}"
    yield "batch size", str(training.batch_size)
    yield "precision", training.precision
    lora = training.lora
    if lora is None:
        yield "LoRA", "no: all weights were trained"
    else:
        merged = "merged into the weights" if lora.merge else "not merged: load with peft"
        yield "LoRA", f"rank {lora.rank}, alpha {lora.alpha}, {lora.target_modules}, {merged}"


def _hub_model(session: Session) -> str:
    """The hub's name of what the student started from; empty when it came from this machine."""
    source = session.models.student_source
    return source if local_place(source) is None else ""


def _hub_data(recipe: Recipe) -> tuple[str, ...]:
    """The hub's names of the data; a file or folder has none."""
    data = recipe.data
    if data is None or data.kind != "files":
        return ()
    names = (data.train, data.validation, data.test)
    hub = (name.partition(":")[0] for name in names if name and not is_here(name))
    return tuple(dict.fromkeys(hub))


def _licences(session: Session, recipe: Recipe) -> Iterator[str]:
    """What each model's own card says of its licence, where there is one to read."""
    parts = {"the student's start": session.models.student_source}
    for name in recipe.ladder if recipe.needs_teacher else ():
        parts[recipe.teacher_title(name)] = session.models.base_teacher(name)
    for part, source in parts.items():
        found = _licence(source)
        yield f"Of {part} ({source}): {found or 'see where it came from'}."
    if recipe.data is not None and recipe.data.kind == "files":
        yield f"Of the data ({recipe.data.train}): see where they came from."


def _licence(source: str) -> str:
    """The licence in the front matter of a model's card on this machine; empty without one."""
    place = local_place(source)
    card = None if place is None else (place if place.is_dir() else place.parent) / CARD
    with contextlib.suppress(OSError, ValueError, IndexError, yaml.YAMLError):
        if card is not None:
            front = yaml.safe_load(card.read_text(encoding="utf-8").split("---\n")[1])
            return str(front.get("license") or "") if isinstance(front, dict) else ""
    return ""
