"""The card of each student: what its recipe, its models and its data say of themselves."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import try_to_load_from_cache

from tutelage.checks.data import is_here
from tutelage.files import atomic_write_text
from tutelage.models.places import local_place
from tutelage.pipeline.context.folder import CARD
from tutelage.pipeline.context.inputs import SPLITS
from tutelage.pipeline.context.session import Session
from tutelage.recipe import Recipe
from tutelage.report import Run, card_values, model_card
from tutelage.report.card_facts import WARNING, licence_warning
from tutelage.report.quantities import count


def write_cards(session: Session, run: Run) -> None:
    """Put a card and the recipe that it names into the folder of each arm's student."""
    base, data = _hub_model(session), _hub_data(session.recipe)
    start = _front_matter(session.models.student_source)
    for arm in run.arms:
        folder = session.part(f"arms/{arm.name}/student")
        if not folder.is_dir():
            continue
        recipe = session.loaded.arms[arm.name]
        said = tuple(_licences(session, recipe))
        warned = any(one.startswith(WARNING) for one in said)
        values = card_values(
            run,
            arm,
            base_model=base,
            datasets=data,
            settings=tuple(_settings(recipe)),
            licences=said,
            # Arms share data and teachers; a control may have another seed for its student.
            seeds={**session.recipe.all_seeds, "student": recipe.student_seed},
            show_prompt=recipe.data is not None and recipe.data.kind != "files",
            # Where a teacher's licence binds its students, which one fits is not ours to say.
            licence="" if warned else str(start.get("license") or ""),
            languages=_languages(start),
            relation=_relation(recipe),
            data=tuple(_data_rows(recipe, run)),
        )
        shutil.copyfile(session.run.path / "recipe.yaml", folder / "recipe.yaml")
        atomic_write_text(folder / CARD, model_card(values))


def _settings(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What somebody who reads the card asks about the training."""
    data, training, loss = recipe.data, recipe.training, recipe.loss
    if data is not None and data.kind == "files":
        yield "data", data.named("train")
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
    names = [one.path for split in SPLITS for one in data.sources(split)]
    hub = (name.partition(":")[0] for name in names if not is_here(name))
    return tuple(dict.fromkeys(hub))


def _languages(front: Mapping[str, Any]) -> tuple[str, ...]:
    """Codes of languages in the front matter of a card."""
    found = front.get("language") or ()
    return tuple(map(str, [found] if isinstance(found, str) else found))


def _relation(recipe: Recipe) -> str:
    """What the student is to what it started from, in the hub's words; empty for a cut one."""
    student, lora = recipe.student, recipe.training.lora
    if student is None or student.layers is not None or student.init_from is not None:
        return ""
    return "finetune" if lora is None or lora.merge else "adapter"


def _data_rows(recipe: Recipe, run: Run) -> Iterator[tuple[str, str, str, str]]:
    """Split, source, examples used, and licence of each part of the data."""
    data = recipe.data
    for split, found in run.data.items():
        if data is None or not isinstance(found, Mapping) or not found.get("kept"):
            continue
        if data.kind != "files":
            licence = "none needed: made by a program"
            yield split, "made by Tutelage", count(found["kept"]), licence
            continue
        held = "" if data.sources(split) else "held out of "
        of_each = found.get("sources") or [
            {"source": data.named("train" if held else split), "kept": found["kept"]}
        ]
        for one in of_each:
            yield split, held + one["source"], count(one["kept"]), ""


def _licences(session: Session, recipe: Recipe) -> Iterator[str]:
    """What each model's own card says of its licence, and what to mind before publishing."""
    parts = {"the student's start": session.models.student_source}
    for name in recipe.ladder if recipe.needs_teacher else ():
        parts[recipe.teacher_title(name)] = session.models.base_teacher(name)
    for part, source in parts.items():
        found = str(_front_matter(source).get("license") or "")
        yield f"Of {part} ({source}): {found or 'see where it came from'}."
        if warning := licence_warning(part, found):
            yield warning
    if recipe.data is not None and recipe.data.kind == "files":
        named = recipe.data.named("train")
        yield f"Of the data ({named}): see where they came from."


def _front_matter(source: str) -> dict[str, Any]:
    """The front matter of a model's card on this machine; empty without one."""
    if source.startswith("embedded:"):
        return {"license": "apache-2.0"}  # a part of Tutelage
    with contextlib.suppress(OSError, ValueError, IndexError, yaml.YAMLError):
        place = local_place(source)
        if place is None:
            found = try_to_load_from_cache(source, CARD)  # asks no network
            card = Path(found) if isinstance(found, str) else None
        else:
            card = (place if place.is_dir() else place.parent) / CARD
        if card is not None:
            front = yaml.safe_load(card.read_text(encoding="utf-8").split("---\n")[1])
            return front if isinstance(front, dict) else {}
    return {}
