"""Stages before training: data, student, difficulty."""

import math
import random
import time
from typing import Any

import datasets

from tutelage.components import bind
from tutelage.data import load_examples, padding_id, tokenize_examples
from tutelage.data.arithmetic import arithmetic_examples
from tutelage.data.load import LoadedExamples
from tutelage.difficulty import (
    DIFFICULTIES,
    example_losses,
    load_profile,
    save_profile,
    summarize,
)
from tutelage.errors import DataError
from tutelage.files import atomic_write_json
from tutelage.models import keep_layers, load_model
from tutelage.pipeline.identity import data_identity, model_identity, tokenizer_identity
from tutelage.pipeline.pictures import profile_png
from tutelage.pipeline.session import Session, plain
from tutelage.pipeline.workshop import autocast_dtype, device
from tutelage.training.saving import disk_checked
from tutelage.types import DifficultyProfile, Example

SPLITS = ("train", "validation", "test")


def prepare_data(session: Session) -> None:
    """Load, format, tokenize; one saved data set for each split, and a summary."""
    settings = session.recipe.data
    assert settings is not None
    tokenizer = session.shop.tokenizer
    sources = {
        split: data_identity(getattr(settings, split))
        for split in SPLITS
        if settings.kind == "files" and getattr(settings, split)
    }
    inputs = {
        "data": plain(settings),
        "sources": sources,
        "tokenizer": tokenizer_identity(tokenizer),
        "seed": session.recipe.seed,
    }
    if session.run.fresh("data", inputs):
        return
    with (
        session.timed("data"),
        session.run.making("data", inputs) as folder,
        session.display.task("Reading and tokenizing the data") as report,
    ):
        summaries = {}
        for split, loaded in _load_splits(session).items():
            tokenized = tokenize_examples(
                loaded,
                tokenizer,
                template=getattr(settings, "template", "auto"),
                system=getattr(settings, "system", None),
                max_length=settings.max_length,
                max_prompt_length=settings.max_prompt_length,
                progress=report,
            )
            with disk_checked(folder / split):
                tokenized.dataset.save_to_disk(folder / split)
            summaries[split] = tokenized.summary
        atomic_write_json(folder / "summary.json", summaries)
    for split, summary in summaries.items():
        for reason, count in summary["dropped"].items():
            if count:
                session.display.note(
                    f"{split}: {count} of {summary['loaded']} examples dropped:"
                    f" {reason.replace('_', ' ')} (for example {summary['dropped_ids'][reason][0]})"
                )


def _load_splits(session: Session) -> dict[str, LoadedExamples]:
    settings, seed = session.recipe.data, session.recipe.seed
    assert settings is not None
    if settings.kind == "arithmetic":
        return {
            split: LoadedExamples(
                tuple(
                    arithmetic_examples(
                        split,
                        count,
                        seed=settings.data_seed,
                        label_noise=settings.label_noise if split == "train" else 0.0,
                        levels=settings.levels,
                    )
                )
            )
            for split in SPLITS
            if (count := getattr(settings, split))
        }
    loaded = {
        split: load_examples(
            source, split=split, limit=getattr(settings, f"limit_{split}"), seed=seed
        )
        for split in SPLITS
        if (source := getattr(settings, split))
    }
    for split in ("validation", "test"):
        share = getattr(settings, f"{split}_share")
        if split not in loaded and share > 0:
            loaded[split], loaded["train"] = _hold_out(loaded["train"], share, split, seed)
    return loaded


def _hold_out(
    loaded: LoadedExamples, share: float, split: str, seed: int
) -> tuple[LoadedExamples, LoadedExamples]:
    """Set a seeded share of the training examples aside, by id."""
    ids = sorted(example.id for example in loaded.examples)
    count = math.ceil(share * len(ids))
    if count >= len(ids):
        raise DataError(
            f"data.{split}_share={share} of {len(ids)} examples leaves nothing to train on."
            " Give more data or a smaller share."
        )
    held = set(random.Random(f"{split} {seed}").sample(ids, count))
    parts: tuple[list[Example], list[Example]] = ([], [])
    for example in loaded.examples:
        parts[example.id not in held].append(example)
    return LoadedExamples(tuple(parts[0])), LoadedExamples(tuple(parts[1]), loaded.duplicates)


def rows_of(session: Session, split: str) -> Any:
    """The tokenized rows of a split, read from the run folder; None when there is no such split."""
    folder = session.part(f"data/{split}")
    return datasets.load_from_disk(str(folder)) if folder.is_dir() else None


def prepare_student(session: Session) -> None:
    """Build the student when it is cut from another model."""
    student = session.recipe.student
    assert student is not None
    if student.init_from is None:
        session.shop.student_place = session.shop.student_source
        return
    source = session.shop.student_source
    revision = student.revision
    if student.init_from == "TEACHER":
        teacher = session.recipe.teacher
        assert session.shop.teacher_place is not None and teacher is not None
        source, revision = session.shop.teacher_place, teacher.revision
    inputs = {"source": model_identity(source, revision), "layers": student.layers}
    session.shop.student_place = str(session.part("student_start"))
    if session.run.fresh("student_start", inputs):
        return
    with (
        session.timed("student"),
        session.display.task(f"Keeping {student.layers} layers for the student"),
        session.run.making("student_start", inputs) as folder,
    ):
        model = load_model(
            source,
            revision=revision,
            dtype=student.dtype,
            trust_remote_code=student.trust_remote_code,
        )
        if student.layers is not None:
            model = keep_layers(model, student.layers)
        with disk_checked(folder):
            model.save_pretrained(folder)
            session.shop.tokenizer.save_pretrained(folder)


def measure_difficulty(session: Session) -> DifficultyProfile:
    """Run the untrained student over the training data, once, and write its profile."""
    settings, student = session.recipe.difficulty, session.recipe.student
    assert session.shop.student_place is not None and student is not None
    inputs = {
        "difficulty": plain(settings),
        "data": session.run.fingerprint("data"),
        "student": model_identity(session.shop.student_place, student.revision),
        "precision": session.recipe.training.precision,
    }
    folder = session.part("difficulty")
    if session.run.fresh("difficulty", inputs):
        return load_profile(folder / "profile.parquet")
    score = bind(DIFFICULTIES, "difficulty", settings.kind, settings.options)
    rows = rows_of(session, "train")
    with (
        session.timed("difficulty"),
        session.run.making("difficulty", inputs) as folder,
        session.display.task("Measuring difficulty with the untrained student") as report,
    ):
        started = time.monotonic()
        losses = example_losses(
            session.shop.student().to(device()),
            rows,
            vocab_size=session.shop.vocab_size,
            pad_token_id=padding_id(session.shop.tokenizer),
            batch_tokens=settings.batch_tokens,
            autocast_dtype=autocast_dtype(session.recipe.training.precision),
            progress=report,
        )
        seconds = time.monotonic() - started
        profile = DifficultyProfile(
            tuple(rows["id"]), score(losses.loss_sums, losses.num_tokens), settings.kind
        )
        groups = list(rows["group"])
        save_profile(
            folder / "profile.parquet",
            profile,
            num_tokens=losses.num_tokens.tolist(),
            groups=groups,
        )
        unit = "nats" if settings.options.get("reduce") == "sum" else "nats per token"
        tokens = sum(len(row) for row in rows["input_ids"])
        atomic_write_json(
            folder / "summary.json",
            {
                **summarize(profile, groups, unit),
                "seconds": round(seconds, 3),
                "tokens_per_second": tokens / max(seconds, 1e-9),
            },
        )
        profile_png(folder / "profile.png", profile, unit)
    return load_profile(session.part("difficulty") / "profile.parquet")
