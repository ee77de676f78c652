"""The models that are to be evaluated outside a run: names, folders, and all models of a run."""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.errors import ConfigError
from tutelage.generation import AskedModel
from tutelage.models import load_tokenizer
from tutelage.models.gate import is_adapter
from tutelage.models.places import find_model
from tutelage.pipeline.context.display import Display
from tutelage.pipeline.context.folder import RECORD, PartsFolder
from tutelage.pipeline.context.identity import model_identity
from tutelage.pipeline.context.inputs import STUDENT_START, teacher_made_from
from tutelage.pipeline.context.models import Models, load_alone, loading, on_device
from tutelage.pipeline.context.session import USED
from tutelage.proofs import read_sealed
from tutelage.recipe import load_recipe


@dataclass(frozen=True)
class Subject:
    """A model that is evaluated.

    Attributes:
        title: what people call it.
        slug: the name of its folder.
        asked: the model.
        identity: what makes it the same.
    """

    title: str
    slug: str
    asked: AskedModel
    identity: Mapping[str, Any]


def subjects_of(names: list[str], options: Mapping[str, Any], display: Display) -> list[Subject]:
    """The models behind what a user named.

    Args:
        names: models, as a recipe has them, or run folders.
        options: how models are loaded (``dtype``, ``trust_remote_code``).
        display: says what is left out.

    Raises:
        ModelError: nothing is there.
        ConfigError: a model is named twice.
    """
    found: list[Subject] = []
    for name in names:
        is_run = (Path(name).expanduser() / RECORD).is_file()
        found += _of_run(Path(name).expanduser(), display) if is_run else [_model(name, options)]
    slugs = [subject.slug for subject in found]
    for subject in found:
        if slugs.count(subject.slug) > 1:
            raise ConfigError(
                f"'{subject.title}' is there twice, or two models are called so. Name each once;"
                " a model in a folder of another name has another name here."
            )
    return found


def served(names: list[str], server: Mapping[str, Any]) -> list[Subject]:
    """Models that a server runs, by their names there."""
    return [
        Subject(
            name,
            slug_of(name),
            AskedModel(name, functools.partial(_not_here, name), None),
            {"served": name, **server},
        )
        for name in names
    ]


def slug_of(name: str) -> str:
    """A name as the name of a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"


def _not_here(name: str) -> Any:
    raise ConfigError(
        f"'{name}' runs on a server; this needs the model in memory here."
        " Name its folder, and leave --server out."
    )


def _model(name: str, options: Mapping[str, Any]) -> Subject:
    place = find_model(name)
    tokenizer = load_tokenizer(place, trust_remote_code=options["trust_remote_code"])
    load = functools.partial(_load, place, options)
    # Two students of one run have the same last name.
    last = [part for part in Path(name).parts if part not in ("/", "..", ".")]
    at_arm = len(last) > 2 and last[-1].startswith("student") and last[-3] == "arms"
    title = "-".join(last[-2:]) if at_arm else (last[-1] if last else name)
    if place != name:  # a short name of the package's own
        title = name
    return Subject(
        title, slug_of(title), AskedModel(place, load, tokenizer), model_identity(place, **options)
    )


def _of_run(folder: Path, display: Display) -> Iterator[Subject]:
    """The students of all arms of a run, its strongest teacher, and the student before."""
    loaded = load_recipe(str(folder / "recipe.yaml"))
    models = Models(loaded, folder / STUDENT_START)
    run = folder.resolve().name

    def subject(title: str, asked: AskedModel, identity: Mapping[str, Any]) -> Subject:
        return Subject(f"{run}: {title}", slug_of(f"{run}-{title}"), asked, identity)

    if loaded.recipe.ladder:
        place = teacher_place(models, folder, models.strongest)
        title = loaded.recipe.teacher_title(models.strongest)
        if place is None:
            display.warn(f"{title} of '{folder}' is not in the run's cache any more: left out")
        else:
            options = loading(loaded.recipe.ladder[models.strongest])
            load = functools.partial(_load, place, options)
            tokenizer = models.tokenizer_of(models.strongest)
            identity = models.identify(place, options)
            yield subject("teacher", AskedModel(place, load, tokenizer), identity)
    yield subject("student before", models.asked_student(), models.student_identity())
    for arm in loaded.arms:
        place = folder / "arms" / arm / "student"
        if not place.is_dir():
            display.warn(f"{arm} of '{folder}' has no student yet: left out")
            continue
        asked = models.asked_saved(str(place))
        if is_adapter(place):
            asked = AskedModel(str(place), asked.load, asked.tokenizer)
        yield subject(arm, asked, models.saved_identity(str(place)))


def _load(place: str, options: Mapping[str, Any]) -> Any:
    return on_device(load_alone(place, **options)).eval()


def teacher_place(models: Models, folder: Path, name: str) -> str | None:
    """Where a teacher of a run is: where it was given, or what was made of it in the cache."""
    teacher = models.recipe.ladder[name]
    if teacher.layers is None and teacher.finetune is None:
        return models.base_teacher(name)
    output = Path(models.recipe.output)
    places = [output / "cache", folder.resolve().parent / "cache"]
    wanted = teacher_made_from(models, name)
    used = (read_sealed(folder / USED) or {}).get("names", [])
    for cache in places:
        parts = PartsFolder(cache)
        for part in used:
            inputs = parts.inputs(part) or {}
            if part.startswith("teacher-") and wanted.items() <= inputs.items():
                return str(parts.part(part))
    return None
