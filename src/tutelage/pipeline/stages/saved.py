"""Students and teachers on disk: saved, loaded again and compared before they are done."""

import contextlib
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutelage.data import keep_stops
from tutelage.files import atomic_write_json, read_json, remove_directory
from tutelage.models.adapters import add_adapters, merge_adapters, with_adapter
from tutelage.models.behaviour import (
    RECORD,
    Behaviour,
    behaviour,
    check_saved,
    read_behaviour,
    some_texts,
)
from tutelage.models.gate import is_adapter
from tutelage.models.head import causal_lm
from tutelage.models.saving import disk_checked
from tutelage.pipeline.context.models import Models, device
from tutelage.pipeline.context.session import Session, training_stage
from tutelage.recipe import Recipe
from tutelage.training.checkpoints import MARKER


def with_lora(model: Any, recipe: Recipe) -> Any:
    """The model with LoRA adapters when the recipe asks for them."""
    lora = recipe.training.lora
    return model if lora is None else add_adapters(model, lora)


def save_students(
    session: Session,
    arm: str,
    inputs: dict[str, Any],
    trained: Any,
    best: Path | None,
    rows: Any,
) -> None:
    """The last student, and the selected one when that is another.

    Args:
        session: the run.
        arm: whose they are.
        inputs: what they were made from.
        trained: what the training left.
        best: folder of the selected student as ``keep_best`` left it; None for the last one.
        rows: tokenized training data.
    """
    lora = session.loaded.arms[arm].training.lora
    folder = session.part(f"arms/{arm}")
    for old in (folder / "student_last", *folder.glob("evaluation_last*")):
        remove_directory(old)  # of an earlier student with other inputs
    selected = read_json(best / "selected.json") if best is not None and best.is_dir() else None
    student = f"arms/{arm}/student"
    stage = training_stage(arm)
    paid = {"stage": stage, "seconds": round(session.clock.seconds[stage], 3)}
    with session.run.making(student, inputs, lambda: paid) as folder, disk_checked(folder):
        if selected is not None and best is not None:
            if selected["step"] != trained.steps:
                part = f"arms/{arm}/student_last"
                with session.run.making(part, inputs) as last, disk_checked(last):
                    _save_last(session, arm, trained.model, last, rows)
            _make_room(trained.model)
            shutil.copytree(best, folder, dirs_exist_ok=True)
            before = read_behaviour(folder)
            if lora is not None and lora.merge:
                _merge(session.models, folder)
            if before is not None:
                _check(session, arm, folder, before)
        else:
            _save_last(session, arm, trained.model, folder, rows)
            atomic_write_json(folder / "selected.json", {"step": trained.steps})
        for name in ("training_args.bin", RECORD, MARKER):
            with contextlib.suppress(FileNotFoundError):
                (folder / name).unlink()


def keep_best(trainer: Any, folder: Path, rows: Any) -> None:
    """Write the student as it is now, with what it says, into a folder.

    Args:
        trainer: in the middle of the training.
        folder: an existing folder.
        rows: tokenized training data.
    """
    trainer.save_model(str(folder))
    _save_stops(trainer.model, folder)
    behaviour(trainer.model, some_texts(rows)).write(folder)


def _save_last(session: Session, arm: str, model: Any, folder: Path, rows: Any) -> None:
    lora = session.loaded.arms[arm].training.lora
    before = save_model(model, session.models.tokenizer, folder, rows, lora)
    _check(session, arm, folder, before)


def _check(session: Session, arm: str, folder: Path, before: Behaviour) -> None:
    load = functools.partial(session.models.saved_student, str(folder))
    check_saved(load, before, f"The saved student of '{arm}'")


def save_model(model: Any, tokenizer: Any, folder: Path, rows: Any, lora: Any = None) -> Behaviour:
    """Save a model in Hugging Face format, its LoRA adapters merged when the recipe says so.

    Args:
        model: what was trained; adapters that are merged are used up.
        tokenizer: goes with it.
        folder: where to.
        rows: tokenized training data, of which a few are asked about.
        lora: the recipe's section, or None.

    Returns:
        What the model says, before it is merged and saved.
    """
    before = behaviour(model, some_texts(rows))
    if lora is not None and lora.merge:
        model = merge_adapters(model)
    keep_stops(model, tokenizer).save_pretrained(folder)
    _save_stops(model, folder)
    tokenizer.save_pretrained(folder)
    _make_room(model)
    return before


def _save_stops(model: Any, folder: Path) -> None:
    """Write what ends an answer beside adapters too, where peft leaves it out."""
    if is_adapter(str(folder)):
        causal_lm(model).generation_config.save_pretrained(folder)


def _make_room(model: Any) -> None:
    """Take a model off the accelerator: the one that is loaded for comparison takes its place."""
    if device().type != "cpu":
        model.to("cpu")


def save_checked(
    model: Any, tokenizer: Any, folder: Path, rows: Any, load: Callable[[], Any], what: str
) -> None:
    """Save a model, load it again and compare.

    Args:
        model: what was made.
        tokenizer: goes with it.
        folder: where to.
        rows: tokenized training data.
        load: loads it from that folder.
        what: names it, for the message.
    """
    where = next(model.parameters()).device
    before = save_model(model, tokenizer, folder, rows)
    check_saved(lambda: load().to(where), before, what)


def _merge(models: Models, folder: Path) -> None:
    """Merge the adapter in a folder, in place."""
    merged = merge_adapters(with_adapter(models.student(), str(folder)))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / name).unlink(missing_ok=True)
    merged.save_pretrained(folder)
